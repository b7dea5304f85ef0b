// Image files as pixels of a size, and pixels as numbers: decoding and resizing by sharp, scaling here. What a model
// wants of its images is its caller's to know.
import sharp from 'sharp'
import { ranges, type PixelRange } from './pixel-range.js'

/** 8-bit pixels, row by row, channels of a pixel together. */
export interface Pixels {
  readonly channels: number
  readonly height: number
  readonly width: number
  readonly data: Uint8Array
}

export interface PixelSize {
  /** 1 for grey, 3 for red, green, blue. */
  channels: 1 | 3
  /** What is not given follows from the image's aspect. */
  height?: number | undefined
  width?: number | undefined
}

export interface PixelScaling {
  /** What black and white become. */
  range: PixelRange
  /** One a channel, subtracted after that. */
  mean?: readonly number[] | undefined
  /** One a channel, divided by in the end. */
  std?: readonly number[] | undefined
  /** Blue first. */
  bgr?: boolean | undefined
}

// Decoded images are used once.
sharp.cache(false)

/** Decodes an image upright, without transparency, stretched to the size. Throws what sharp throws for bytes that are no image. */
export async function decodePixels(bytes: Buffer, { channels, height, width }: PixelSize): Promise<Pixels> {
  // To stretch to one side alone would leave the other as it is.
  const size = height === undefined || width === undefined ? { ...(height && { height }), ...(width && { width }) } : { height, width, fit: 'fill' as const }
  const { data, info } = await sharp(bytes)
    .autoOrient()
    .removeAlpha()
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .resize(size)
    .raw()
    .toBuffer({ resolveWithObject: true })
  if (info.channels === channels) return { channels, height: info.height, width: info.width, data }
  const grey = Uint8Array.from({ length: info.width * info.height * channels }, (_, i) => data[Math.floor(i / channels) * info.channels]!)
  return { channels, height: info.height, width: info.width, data: grey }
}

/** Scaled values of pixels, channel by channel ([C, H, W]) if `planar`, else in their order ([H, W, C]). */
export function scaledPixels({ channels, data }: Pixels, { range, mean, std, bgr }: PixelScaling, planar: boolean): Float32Array<ArrayBuffer> {
  const [low, high] = ranges[range]
  const plane = data.length / channels
  const values = new Float32Array(data.length)
  for (let channel = 0; channel < channels; channel++) {
    const source = bgr === true ? channels - 1 - channel : channel
    const [shift, scale] = [mean?.[channel] ?? 0, std?.[channel] ?? 1]
    for (let pixel = 0; pixel < plane; pixel++) {
      const value = low + (data[pixel * channels + source]! / 255) * (high - low)
      values[planar ? channel * plane + pixel : pixel * channels + channel] = (value - shift) / scale
    }
  }
  return values
}
