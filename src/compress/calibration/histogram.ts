// A histogram of a tensor's values over all samples: equal bins between the least and the greatest value,
// which are known beforehand (min-max.ts), so that memory does not grow with the samples.
import type { Range } from '../quantize/affine.js'

/** Enough that a bin is an eighth of a uint8 step; with 128, as is usual, entropy finds nothing to clip. */
export const BINS = 2048

export interface Histogram {
  /** Least and greatest value ever seen: the outer edges of the first and the last bin. */
  range: Range
  /** Values a bin; BINS of them. */
  counts: Float64Array
}

export function emptyHistogram(range: Range): Histogram {
  return { range, counts: new Float64Array(BINS) }
}

/** Adds values, all within the range but for rounding. */
export function addToHistogram({ range: { min, max }, counts }: Histogram, values: Float32Array): void {
  const perValue = max > min ? BINS / (max - min) : 0
  for (let i = 0; i < values.length; i++) {
    const bin = Math.floor(((values[i] as number) - min) * perValue)
    const index = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin
    counts[index] = (counts[index] as number) + 1
  }
}

/** Left edge of a bin; of bin BINS, the right edge of the last. */
export function edgeOf({ range: { min, max } }: Histogram, bin: number): number {
  return min + ((max - min) * bin) / BINS
}
