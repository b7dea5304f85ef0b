// From what was seen of a tensor to the range that its codes cover. Pure. A range narrower than everything
// seen clips a few large values, and gives all others finer steps.
import type { Range } from '../quantize/affine.js'
import { BINS, edgeOf, type Histogram } from './histogram.js'

/** Codes of uint8. */
const LEVELS = 256
/** Share of the way from the old estimate to a new batch's range. */
const MOMENTUM = 0.1
/** Narrower windows tried; more would differ by less than a bin or two. */
const WINDOWS = 64
/** No window is narrower than this share of all that was seen: what is beyond is clipped, not lost. */
const NARROWEST = 0.25

/** Exponential moving average of the ranges of batches: an outlier in one batch counts a tenth. */
export function movingAverage(known: Range | undefined, batch: Range): Range {
  if (known === undefined) return batch
  const towards = (from: number, to: number) => from + MOMENTUM * (to - from)
  return { min: towards(known.min, batch.min), max: towards(known.max, batch.max) }
}

/** The narrowest range of whole bins with at most (100 − percentile) ÷ 2 percent of all values beyond either end. */
export function percentileRange(histogram: Histogram, percentile: number): Range {
  const { counts, range } = histogram
  const most = (total(counts) * (1 - percentile / 100)) / 2
  let [low, below] = [0, counts[0] as number]
  while (low < BINS - 1 && below <= most) {
    low += 1
    below += counts[low] as number
  }
  let [high, above] = [BINS - 1, counts[BINS - 1] as number]
  while (high > low && above <= most) {
    high -= 1
    above += counts[high] as number
  }
  return { min: low === 0 ? range.min : edgeOf(histogram, low), max: high === BINS - 1 ? range.max : edgeOf(histogram, high + 1) }
}

/**
 * The range whose 256 steps change the distribution of values least: the least Kullback-Leibler divergence of the
 * clipped distribution from its quantized form, after Migacz, "8-bit inference with TensorRT" (GTC 2017), with
 * windows that shrink towards zero from both ends.
 */
export function entropyRange(histogram: Histogram): Range {
  return bestWindow(histogram, divergenceOf)
}

/** The range of least expected squared error: clipping beyond the ends, and a twelfth of a squared step within. */
export function mseRange(histogram: Histogram): Range {
  return bestWindow(histogram, squaredErrorOf)
}

type Cost = (histogram: Histogram, low: number, high: number) => number

/** Ends move independently, one after the other, twice: the cost is nearly separable, and a full grid would be 64 times the work. */
function bestWindow(histogram: Histogram, cost: Cost): Range {
  const zero = zeroBin(histogram)
  const lows = windowEnds(zero)
  const highs = windowEnds(BINS - zero).map((length) => zero + length)
  let [low, high] = [0, BINS]
  for (let round = 0; round < 2; round++) {
    high = leastBy(highs, (end) => cost(histogram, low, end))
    low = leastBy(
      lows.map((length) => zero - length),
      (start) => cost(histogram, start, high),
    )
  }
  return { min: low === 0 ? histogram.range.min : edgeOf(histogram, low), max: high === BINS ? histogram.range.max : edgeOf(histogram, high) }
}

/** Lengths from all of `length` down to the narrowest, widest first; just 0 where there is nothing on this side of zero. */
function windowEnds(length: number): number[] {
  if (length === 0) return [0]
  const ends = Array.from({ length: WINDOWS + 1 }, (_, step) => Math.ceil(length * (1 - (step / WINDOWS) * (1 - NARROWEST))))
  return [...new Set(ends)]
}

/** The first of the least, so that ties keep the widest window. */
function leastBy(values: readonly number[], cost: (value: number) => number): number {
  let [best, least] = [values[0] as number, Infinity]
  for (const value of values) {
    const own = cost(value)
    if (own < least) [best, least] = [value, own]
  }
  return best
}

/** Index of the edge nearest to zero, or of the end that zero lies beyond. */
function zeroBin({ range: { min, max } }: Histogram): number {
  if (!(max > min)) return 0
  return Math.min(BINS, Math.max(0, Math.round((-min / (max - min)) * BINS)))
}

function squaredErrorOf(histogram: Histogram, low: number, high: number): number {
  const { counts } = histogram
  const [start, end] = [Math.min(edgeOf(histogram, low), 0), Math.max(edgeOf(histogram, high), 0)]
  const step = (end - start) / (LEVELS - 1)
  let [inside, outside] = [0, 0]
  for (let bin = 0; bin < BINS; bin++) {
    const count = counts[bin] as number
    if (bin >= low && bin < high) inside += count
    else if (count > 0) outside += count * (edgeOf(histogram, bin + 0.5) - (bin < low ? start : end)) ** 2
  }
  return outside + (inside * step * step) / 12
}

function divergenceOf({ counts }: Histogram, low: number, high: number): number {
  const width = high - low
  if (width <= LEVELS) return Infinity
  let [before, after, sum] = [0, 0, 0]
  for (let bin = 0; bin < BINS; bin++) {
    const count = counts[bin] as number
    sum += count
    if (bin < low) before += count
    else if (bin >= high) after += count
  }
  // The reference has what is clipped in its end bins; the quantized form knows only what is inside.
  const reference = (bin: number) => (counts[bin] as number) + (bin === low ? before : 0) + (bin === high - 1 ? after : 0)
  const insideSum = sum - before - after
  if (insideSum === 0) return Infinity
  let divergence = 0
  for (let level = 0; level < LEVELS; level++) {
    const [from, to] = [low + Math.floor((level * width) / LEVELS), low + Math.floor(((level + 1) * width) / LEVELS)]
    let [mass, occupied] = [0, 0]
    for (let bin = from; bin < to; bin++) {
      mass += counts[bin] as number
      if (reference(bin) > 0) occupied += 1
    }
    for (let bin = from; bin < to; bin++) {
      const p = reference(bin) / sum
      if (p === 0) continue
      // Where the quantized form has nothing at all, it is given half a value: an infinite divergence could not be compared.
      const q = Math.max(mass / occupied, 0.5) / insideSum
      divergence += p * Math.log(p / q)
    }
  }
  return divergence
}

function total(counts: Float64Array): number {
  return counts.reduce((sum, count) => sum + count, 0)
}
