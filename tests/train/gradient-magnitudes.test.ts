// Against the closed form of softmax regression: the gradient of a batch by W is Xᵀ(p − y)/N, by b the mean of p − y.
import { expect, it } from 'vitest'
import { model as makeModel, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { gradientMagnitudes } from '#flyweight/train/gradient-magnitudes.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../onnx/running.js'

const [ROWS, INPUTS, CLASSES, BATCH] = [12, 3, 4, 4]
const x = noise([ROWS, INPUTS], 1).data as Float32Array<ArrayBuffer>
const w = noise([INPUTS, CLASSES], 2).data as Float32Array<ArrayBuffer>
const b = noise([CLASSES], 3).data as Float32Array<ArrayBuffer>
const labelOf = (row: number) => (row * 7) % CLASSES

const regression = makeModel({
  inputs: [valueInfo('x', 'float32', ['n', INPUTS])],
  outputs: [valueInfo('y', 'float32', ['n', CLASSES])],
  nodes: [node('MatMul', ['x', 'w'], ['product']), node('Add', ['product', 'b'], ['y'])],
  initializers: [tensorProto('w', 'float32', [INPUTS, CLASSES], w), tensorProto('b', 'float32', [CLASSES], b)],
})

function batches(): Record<string, Tensor>[] {
  return Array.from({ length: ROWS / BATCH }, (_, index) => ({
    x: { dtype: 'float32', dims: [BATCH, INPUTS], data: x.slice(index * BATCH * INPUTS, (index + 1) * BATCH * INPUTS) },
    labels: { dtype: 'int64', dims: [BATCH], data: BigInt64Array.from({ length: BATCH }, (_row, row) => BigInt(labelOf(index * BATCH + row))) },
  }))
}

it('gives the root mean square over batches', async () => {
  const squares = { w: new Float64Array(INPUTS * CLASSES), b: new Float64Array(CLASSES) }
  for (let from = 0; from < ROWS; from += BATCH) {
    const batch = { w: new Float64Array(INPUTS * CLASSES), b: new Float64Array(CLASSES) }
    for (let row = from; row < from + BATCH; row++) {
      const scores = Array.from({ length: CLASSES }, (_, c) => {
        let score = b[c] as number
        for (let i = 0; i < INPUTS; i++) score += (x[row * INPUTS + i] as number) * (w[i * CLASSES + c] as number)
        return score
      })
      const total = scores.reduce((sum, score) => sum + Math.exp(score), 0)
      for (let c = 0; c < CLASSES; c++) {
        const error = (Math.exp(scores[c] as number) / total - (c === labelOf(row) ? 1 : 0)) / BATCH
        batch.b[c] = (batch.b[c] as number) + error
        for (let i = 0; i < INPUTS; i++) batch.w[i * CLASSES + c] = (batch.w[i * CLASSES + c] as number) + error * (x[row * INPUTS + i] as number)
      }
    }
    for (const name of ['w', 'b'] as const)
      for (const [index, value] of batch[name].entries()) squares[name][index] = (squares[name][index] as number) + value ** 2
  }
  const loss = lossOf({ kind: 'cross-entropy' })
  const magnitudes = await gradientMagnitudes({
    model: regression,
    parameters: ['b', 'w'],
    batches: batches(),
    loss: (emit, tensors) => loss(emit, { prediction: 'y', target: 'labels', tensors }),
    threads: 1,
  })
  for (const name of ['w', 'b'] as const) {
    for (const [index, value] of squares[name].entries()) expect(magnitudes.get(name)?.[index]).toBeCloseTo(Math.sqrt(value / (ROWS / BATCH)), 5)
  }
})
