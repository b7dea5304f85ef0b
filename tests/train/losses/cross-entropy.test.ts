import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { floats, int64s } from '../../onnx/running.js'
import { checkLoss, crossEntropyOf, doubles, random, rowsOf, softmaxOf, valueOf, type Options } from './emitted.js'

const plain: Options = { kind: 'cross-entropy' }
const smoothed: Options = { kind: 'cross-entropy', labelSmoothing: 0.1 }

describe('cross-entropy', () => {
  const scores = random([5, 4], 1)
  it.each([plain, smoothed])('is the mean over labelled rows, with %j', async (options) => {
    const labels = [3, -1, 0, 2, -1]
    const expected = crossEntropyOf(
      rowsOf(scores).map((row) => softmaxOf(row)),
      labels,
      options === smoothed ? 0.1 : 0,
    )
    expect(await valueOf(options, { prediction: scores, target: int64s([5], labels) })).toBeCloseTo(expected, 12)
  })

  it('is that for any rows and labels', async () => {
    const cases = fc.record({
      labels: fc.array(fc.integer({ min: -1, max: 2 }), { minLength: 1, maxLength: 6 }),
      labelSmoothing: fc.constantFrom(0, 0.05, 0.5),
      seed: fc.integer({ min: 1, max: 1000 }),
    })
    await fc.assert(
      fc.asyncProperty(cases, async ({ labels, labelSmoothing, seed }) => {
        const prediction = random([labels.length, 3], seed, 8)
        const expected = crossEntropyOf(
          rowsOf(prediction).map((row) => softmaxOf(row)),
          labels,
          labelSmoothing,
        )
        const value = await valueOf({ kind: 'cross-entropy', labelSmoothing }, { prediction, target: int64s([labels.length], labels) })
        expect(value).toBeCloseTo(expected, 10)
      }),
      { numRuns: 30, seed: 1 },
    )
  })

  it('is zero, as its gradient, where no row has a label', async () => {
    const feeds = { prediction: random([2, 3], 2), target: int64s([2], [-1, -1]) }
    expect(await valueOf(smoothed, feeds)).toBeCloseTo(0, 15)
    await checkLoss(smoothed, feeds)
  })

  it('takes scores of many rows an element, and int32 labels', async () => {
    const prediction = random([2, 3, 4], 3)
    const labels = [1, -1, 0, 3, 2, -1]
    const expected = crossEntropyOf(
      rowsOf(prediction).map((row) => softmaxOf(row)),
      labels,
    )
    expect(await valueOf(plain, { prediction, target: { dtype: 'int32', dims: [2, 3], data: Int32Array.from(labels) } })).toBeCloseTo(expected, 12)
  })

  it('takes scores that softmax alone could not', async () => {
    const value = await valueOf(plain, { prediction: floats([2, 2], [1e4, -1e4, 200, -200]), target: int64s([2], [1, 0]) })
    expect(value).toBe(1e4)
  })

  it('ignores a class that cannot be', async () => {
    const feeds = { prediction: floats([1, 3], [0, -Infinity, 0]), target: int64s([1], [0]) }
    expect(await valueOf(plain, feeds)).toBeCloseTo(Math.log(2), 6)
  })

  it('takes probabilities', async () => {
    const probabilities = rowsOf(scores).map((row) => softmaxOf(row))
    const feeds = { prediction: doubles([5, 4], probabilities.flat()), target: int64s([5], [0, 1, 2, -1, 3]) }
    const options = { kind: 'cross-entropy', predictions: 'probabilities' } as const
    expect(await valueOf(options, feeds)).toBeCloseTo(crossEntropyOf(probabilities, [0, 1, 2, -1, 3]), 12)
    await checkLoss(options, feeds)
    expect(await valueOf(options, { prediction: floats([1, 2], [1, 0]), target: int64s([1], [1]) })).toBeCloseTo(30 * Math.LN10, 3)
  })

  it.each([plain, smoothed])('has the gradient that differences say, with %j', async (options) => {
    await checkLoss(options, { prediction: scores, target: int64s([5], [3, -1, 0, 2, -1]) })
    await checkLoss(options, { prediction: random([2, 3, 4], 4), target: int64s([2, 3], [0, 1, 2, 3, -1, 0]) })
  })

  it('refuses labels of another shape', async () => {
    await expect(valueOf(plain, { prediction: scores, target: int64s([5, 1], [0, 0, 0, 0, 0]) })).rejects.toThrow(
      '/loss: "target" is [5, 1], expected [5], one index for each row of "prediction"',
    )
  })
})
