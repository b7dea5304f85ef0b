import { describe, it } from 'vitest'
import { node } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'

/** Away from zero, so that quotients are tame. */
const positive = (dims: number[], seed: number): Tensor => {
  const tensor = noise(dims, seed)
  return { ...tensor, data: (tensor.data as Float32Array).map((value) => 1 + 0.4 * value) }
}
const double = (tensor: Tensor): Tensor => ({ ...tensor, dtype: 'float64', data: Float64Array.from(tensor.data as Float32Array) })

const shapes: [number[], number[]][] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [[3], [2, 3]],
  [
    [2, 1, 4],
    [3, 1],
  ],
  [[], [2, 2]],
  [
    [1, 1],
    [1, 5],
  ],
]

describe.each(['Add', 'Sub', 'Mul', 'Div'])('%s', (opType) => {
  it.each(shapes)('of %j and %j', async (a, b) => {
    await checkGradients({ nodes: [node(opType, ['a', 'b'], ['y'])], feeds: { a: double(positive(a, 1)), b: double(positive(b, 2)) } })
  })
  it('of a tensor and itself', async () => {
    await checkGradients({ nodes: [node(opType, ['a', 'a'], ['y'])], feeds: { a: double(positive([2, 3], 3)) } })
  })
})
