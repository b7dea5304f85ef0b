// Which elements of an axis an element of the resized axis is made of, and by what weights: ONNX's Resize.
// Coordinates are computed in single precision as the runtime does, so that roundings go the same way.

export interface Tap {
  source: number
  weight: number
}

export interface Interpolation {
  /** coordinate_transformation_mode: any but those of tf_. */
  coordinates: string
  mode: 'nearest' | 'linear'
  /** nearest_mode */
  rounding: string
}

interface Sizes {
  from: number
  to: number
  scale: number
}

/** For each element of the resized axis, the elements that it is the weighted sum of. */
export function interpolationTaps(sizes: Sizes, { coordinates, mode, rounding }: Interpolation): Tap[][] {
  const last = sizes.from - 1
  const inside = (place: number) => Math.min(last, Math.max(0, place))
  return Array.from({ length: sizes.to }, (_, place) => {
    const original = originalCoordinate(place, sizes, coordinates)
    if (mode === 'nearest') return [{ source: inside(rounded(original, rounding)), weight: 1 }]
    const bounded = inside(original)
    const low = Math.floor(bounded)
    const share = bounded - low
    return [
      { source: low, weight: 1 - share },
      { source: inside(low + 1), weight: share },
    ]
  })
}

/** Whether each of `length` elements is repeated the same number of times, in order. */
export function isRepetition(taps: readonly Tap[][], length: number): boolean {
  const times = taps.length / length
  return Number.isInteger(times) && taps.every(([first, ...more], place) => more.length === 0 && first?.source === Math.floor(place / times))
}

function originalCoordinate(place: number, { from, to, scale }: Sizes, coordinates: string): number {
  const single = Math.fround(scale)
  const middle = Math.fround((place + 0.5) / single)
  switch (coordinates) {
    case 'asymmetric':
      return Math.fround(place / single)
    case 'align_corners':
      return to === 1 ? 0 : Math.fround(Math.fround(place * (from - 1)) / (to - 1))
    case 'pytorch_half_pixel':
      return to === 1 ? 0 : Math.fround(middle - 0.5)
    case 'half_pixel_symmetric':
      return (from / 2) * (1 - to / (scale * from)) + middle - 0.5
    default:
      return Math.fround(middle - 0.5)
  }
}

function rounded(coordinate: number, rounding: string): number {
  if (rounding === 'floor') return Math.floor(coordinate)
  if (rounding === 'ceil') return Math.ceil(coordinate)
  return rounding === 'round_prefer_ceil' ? Math.floor(coordinate + 0.5) : Math.ceil(coordinate - 0.5)
}
