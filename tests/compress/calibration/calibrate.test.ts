// Ranges of a model's inner tensors: the same that a naive pass over all values gives, by every method.
import { describe, expect, it } from 'vitest'
import { calibrate, type CalibrationMethod } from '#flyweight/compress/calibration/calibrate.js'
import type { PassContext } from '#flyweight/compress/passes/pass.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { node } from '#flyweight/onnx/builder.js'
import { compressed, fidelityOf, network, noiseSamples, outputs, weights, withFolder } from '../compressing.js'

const rowDims = [3, 8, 8]
const source = network(
  rowDims,
  ['n', 4, 8, 8],
  [
    node('Conv', ['x', 'w', 'b'], ['c'], { attributes: { pads: [1, 1, 1, 1] } }),
    node('Relu', ['c'], ['r']),
    node('Conv', ['r', 'v'], ['y'], { attributes: { pads: [1, 1, 1, 1] } }),
  ],
  [weights('w', [4, 3, 3, 3]), weights('b', [4]), weights('v', [4, 4, 3, 3], { seed: 4 })],
)
const samples = noiseSamples(rowDims, 32)

const ranges = (method: CalibrationMethod, percentile = 99) =>
  withFolder((workDir) => {
    const context: PassContext = { loadOriginal: () => Promise.resolve(source), device: 'cpu', samples, maxBatch: 32, threads: 1, workDir }
    return calibrate(source, ['c', 'y'], { method, percentile }, context)
  })

describe('calibrate', () => {
  it('finds the extremes of all values by min-max', async () => {
    const { y } = await outputs(source, samples.take(0, 32))
    const values = y!.data as Float32Array
    const found = (await ranges('min-max')).get('y')!
    expect(found.min).toBeCloseTo(Math.min(...values), 5)
    expect(found.max).toBeCloseTo(Math.max(...values), 5)
  })

  it('covers the asked share of all values by percentile', async () => {
    const { y } = await outputs(source, samples.take(0, 32))
    const values = y!.data as Float32Array
    const { min, max } = (await ranges('percentile', 90)).get('y')!
    const inside = values.filter((value) => value >= min && value <= max).length / values.length
    expect(inside).toBeGreaterThanOrEqual(0.9)
    expect(inside).toBeLessThan(0.91)
  })

  it('samples very many values evenly', async () => {
    // One batch of 4 rows gives 4 · 2^17 values: every ninth is looked at.
    const width = 2 ** 17
    const large = network([width], ['n', width], [node('Abs', ['x'], ['y'])], [])
    const rows: Samples = {
      rows: 4,
      digest: 'ramp',
      take: (_, count) => ({ x: { dtype: 'float32', dims: [count, width], data: Float32Array.from({ length: count * width }, (__, i) => i % width) } }),
    }
    const found = await withFolder((workDir) => {
      const context: PassContext = { loadOriginal: () => Promise.resolve(large), device: 'cpu', samples: rows, maxBatch: 32, threads: 1, workDir }
      return calibrate(large, ['y'], { method: 'percentile', percentile: 50 }, context)
    })
    const { min, max } = found.get('y')!
    expect(min / width).toBeCloseTo(0.25, 2)
    expect(max / width).toBeCloseTo(0.75, 2)
  })

  it.each(['moving-average', 'entropy', 'mse'] as const)('gives ranges within the extremes by %s', async (method) => {
    const [all, own] = [await ranges('min-max'), await ranges(method)]
    expect([...own.keys()]).toEqual(['c', 'y'])
    for (const [tensor, { min, max }] of own) {
      expect(min).toBeGreaterThanOrEqual(all.get(tensor)!.min)
      expect(max).toBeLessThanOrEqual(all.get(tensor)!.max)
      expect(max - min).toBeGreaterThan(0.3 * (all.get(tensor)!.max - all.get(tensor)!.min))
    }
  })

  it.each(['min-max', 'moving-average', 'percentile', 'entropy', 'mse'])('quantizes well by %s, byte for byte the same each time', async (method) => {
    const recipe = `int8-static(calibration=${method})`
    const [first, second] = [await compressed(source, recipe, samples), await compressed(source, recipe, samples)]
    expect(first.model).toEqual(second.model)
    // Entropy clips more, the fewer values it has seen.
    expect(await fidelityOf(source, first.model, rowDims)).toBeGreaterThan(method === 'entropy' ? 18 : 25)
  })
})
