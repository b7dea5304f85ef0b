import { describe, expect, it } from 'vitest'
import { floats, int64s, noise } from '../../onnx/running.js'
import { checkLoss, meanOf, random, rowsOf, valueOf } from './emitted.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

const values = ({ data }: Tensor) => Array.from(data as Float64Array)
const prediction = random([4, 3], 1)
const target = random([4, 3], 2)
const differences = values(prediction).map((value, index) => value - (values(target)[index] as number))

describe('squared and absolute differences', () => {
  it('are means over all elements', async () => {
    expect(await valueOf({ kind: 'mse' }, { prediction, target })).toBeCloseTo(meanOf(differences.map((one) => one ** 2)), 12)
    expect(await valueOf({ kind: 'l1' }, { prediction, target })).toBeCloseTo(meanOf(differences.map(Math.abs)), 12)
  })

  it.each(['mse', 'l1'] as const)('have the gradients that differences say: %s', async (kind) => {
    await checkLoss({ kind }, { prediction, target })
    await checkLoss({ kind }, { prediction: random([], 3), target: random([], 4) })
  })

  it('take targets of another type', async () => {
    expect(await valueOf({ kind: 'mse' }, { prediction: floats([2], [1, 2]), target: int64s([2], [1, 4]) })).toBe(2)
  })

  it('do not broadcast', async () => {
    await expect(valueOf({ kind: 'mse' }, { prediction: random([4, 1], 5), target: random([4], 6) })).rejects.toThrow(
      '/loss: "target" is [4], expected [4, 1], as "prediction" has',
    )
  })
})

describe('binary cross-entropy', () => {
  const logits = noise([4, 3], 7)
  const wanted = { ...noise([4, 3], 8), data: (noise([4, 3], 8).data as Float32Array).map((value) => (value + 1) / 2) }

  it('is the mean over all elements', async () => {
    const losses = values(logits).map((x, index) => {
      const [p, y] = [1 / (1 + Math.exp(-x)), values(wanted)[index] as number]
      return -y * Math.log(p) - (1 - y) * Math.log(1 - p)
    })
    expect(await valueOf({ kind: 'binary-cross-entropy' }, { prediction: logits, target: wanted })).toBeCloseTo(meanOf(losses), 6)
  })

  it('takes logits that the sigmoid alone could not', async () => {
    const target = int64s([4], [1, 0, 1, 0])
    expect(await valueOf({ kind: 'binary-cross-entropy' }, { prediction: floats([4], [200, -200, -200, 200]), target })).toBe(100)
  })

  it('has the gradient that differences say, also at zero', async () => {
    await checkLoss({ kind: 'binary-cross-entropy' }, { prediction: logits, target: wanted })
    await checkLoss({ kind: 'binary-cross-entropy' }, { prediction: floats([3], [0, 0, 0]), target: floats([3], [0, 1, 0.3]) })
  })
})

describe('features', () => {
  const features = { prediction: random([3, 2, 4], 9), target: random([3, 2, 4], 10) }

  it('are compared by squared differences', async () => {
    expect(await valueOf({ kind: 'feature' }, features)).toBe(await valueOf({ kind: 'mse' }, features))
  })

  it('are compared by the cosine of each row', async () => {
    const rows = (tensor: Tensor) => rowsOf({ ...tensor, dims: [3, 8] })
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, index) => sum + value * (b[index] as number), 0)
    const cosines = rows(features.prediction).map((a, row) => {
      const b = rows(features.target)[row] as number[]
      return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
    })
    expect(await valueOf({ kind: 'feature', measure: 'cosine' }, features)).toBeCloseTo(1 - meanOf(cosines), 10)
  })

  it('have the gradients that differences say', async () => {
    await checkLoss({ kind: 'feature' }, features)
    await checkLoss({ kind: 'feature', measure: 'cosine' }, features)
  })

  it('of zeros have a cosine of zero', async () => {
    const zeros = { prediction: floats([1, 2], [0, 0]), target: floats([1, 2], [1, 2]) }
    expect(await valueOf({ kind: 'feature', measure: 'cosine' }, zeros)).toBe(1)
  })
})
