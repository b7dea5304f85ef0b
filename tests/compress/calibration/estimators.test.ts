// Ranges from histograms: closed forms where there are some, a naive search where there is none, and what
// holds for every histogram.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { entropyRange, movingAverage, mseRange, percentileRange } from '#flyweight/compress/calibration/estimators.js'
import { addToHistogram, BINS, emptyHistogram, type Histogram } from '#flyweight/compress/calibration/histogram.js'
import { noise } from '../../onnx/running.js'

function histogramOf(values: Float32Array): Histogram {
  const histogram = emptyHistogram({ min: values.reduce((a, b) => Math.min(a, b)), max: values.reduce((a, b) => Math.max(a, b)) })
  // In batches small enough that every value is counted.
  for (let from = 0; from < values.length; from += 2 ** 15) addToHistogram(histogram, values.subarray(from, from + 2 ** 15))
  return histogram
}

/** Normal values by Box and Muller, seeded; `outlier` is one value far out. */
function normal(count: number, outlier?: number): Float32Array {
  const uniform = (noise([2 * count], 11).data as Float32Array).map((value) => (value + 1) / 2)
  const values = Float32Array.from(
    { length: count },
    (_, i) => Math.sqrt(-2 * Math.log(1 - uniform[2 * i]! * 0.9999999)) * Math.cos(2 * Math.PI * uniform[2 * i + 1]!),
  )
  if (outlier !== undefined) values[0] = outlier
  return values
}

const anyHistogram = fc
  .array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 }), { minLength: 2, maxLength: 300 })
  .map((values) => histogramOf(Float32Array.from(values)))

describe('histogram', () => {
  it('counts every value once, in the bin of its value', () => {
    const values = Float32Array.from({ length: BINS }, (_, i) => i + 0.5)
    const histogram = emptyHistogram({ min: 0, max: BINS })
    addToHistogram(histogram, values)
    addToHistogram(histogram, values)
    expect(histogram.counts.every((count) => count === 2)).toBe(true)
  })

  it('takes a tensor of one value', () => {
    expect(histogramOf(new Float32Array(5).fill(3)).counts[0]).toBe(5)
  })
})

describe.each([
  ['percentile', (histogram: Histogram) => percentileRange(histogram, 99)],
  ['entropy', entropyRange],
  ['mse', mseRange],
])('%s', (_, estimate) => {
  it('stays within what was seen', () => {
    fc.assert(
      fc.property(anyHistogram, (histogram) => {
        const { min, max } = estimate(histogram)
        expect(min).toBeGreaterThanOrEqual(histogram.range.min)
        expect(max).toBeLessThanOrEqual(histogram.range.max)
        expect(max).toBeGreaterThanOrEqual(min)
      }),
      { seed: 3, numRuns: 40 },
    )
  })

  it('clips one value far out, and keeps the bulk', () => {
    const { min, max } = estimate(histogramOf(normal(200_000, 40)))
    expect(max).toBeLessThan(36)
    expect(max).toBeGreaterThan(2)
    expect(min).toBeLessThan(-2)
  })
})

describe('percentile', () => {
  it('cuts the same share off both ends', () => {
    const histogram = histogramOf(Float32Array.from({ length: 10_001 }, (_, i) => i / 100))
    const { min, max } = percentileRange(histogram, 90)
    expect(min).toBeCloseTo(5, 0)
    expect(max).toBeCloseTo(95, 0)
    expect(percentileRange(histogram, 100)).toEqual({ min: 0, max: 100 })
  })
})

describe('mse', () => {
  it('covers evenly spread values whole', () => {
    const { min, max } = mseRange(histogramOf(Float32Array.from({ length: 50_000 }, (_, i) => i / 25_000 - 1)))
    expect([min, max]).toEqual([-1, Math.fround(49_999 / 25_000 - 1)])
  })

  it('weighs one value far out against the steps of all others', () => {
    // Least of n · ((t + 4) ÷ 255)² ÷ 12 + (40 − t)² over t, for n values of which the least is near −4: t = (40 − 4c) ÷ (1 + c).
    const c = 200_000 / 255 ** 2 / 12
    const { max } = mseRange(histogramOf(normal(200_000, 40)))
    expect(Math.abs(max - (40 - 4 * c) / (1 + c))).toBeLessThan(1)
  })

  it('quantizes what it saw with no more error than the whole range does', () => {
    const errorOf = (values: Float32Array, { min, max }: { min: number; max: number }) => {
      const [low, high] = [Math.min(min, 0), Math.max(max, 0)]
      const step = (high - low) / 255
      return values.reduce((sum, value) => sum + (value - (Math.round((Math.min(high, Math.max(low, value)) - low) / step) * step + low)) ** 2, 0)
    }
    for (const outlier of [6, 12, 50]) {
      const values = normal(20_000, outlier)
      const histogram = histogramOf(values)
      expect(errorOf(values, mseRange(histogram))).toBeLessThan(errorOf(values, histogram.range) * 1.001)
    }
  })
})

describe('moving average', () => {
  it('starts at the first batch and goes a tenth of the way to each other', () => {
    const first = movingAverage(undefined, { min: -1, max: 1 })
    expect(first).toEqual({ min: -1, max: 1 })
    const second = movingAverage(first, { min: -2, max: 11 })
    expect(second.min).toBeCloseTo(-1.1)
    expect(second.max).toBeCloseTo(2)
  })
})
