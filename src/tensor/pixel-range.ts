// The ranges that pixels of an image may be scaled to. Apart from image-input.ts, so that naming them
// does not load the image library.

export const ranges = { '0..1': [0, 1], '-1..1': [-1, 1], '0..255': [0, 255] } as const

/** What black and white become. */
export type PixelRange = keyof typeof ranges
export const pixelRanges = Object.keys(ranges) as PixelRange[]
