// Zeros that are to stay do so bit by bit under every optimizer, and all else moves as without them.
import { describe, expect, it } from 'vitest'
import { model as makeModel, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { optimizerOf } from '#flyweight/train/optimizers/table.js'
import { withZerosKept, zerosOf } from '#flyweight/train/sparsity.js'
import { train } from '#flyweight/train/trainer.js'
import type { Model } from '#flyweight/train/training-form.js'
import { noise } from '../onnx/running.js'

const WEIGHT = [0, 0.5, -0.25, 0, 0.75, 1]
const model: Model = makeModel({
  inputs: [valueInfo('x', 'float32', ['n', 3])],
  outputs: [valueInfo('y', 'float32', ['n', 2])],
  nodes: [node('MatMul', ['x', 'w'], ['product']), node('Add', ['product', 'b'], ['y'])],
  initializers: [tensorProto('w', 'float32', [3, 2], WEIGHT), tensorProto('b', 'float32', [2], [0, 0])],
})

async function trained(names: string[], kind: 'sgd' | 'adam' | 'adamw' | 'lamb'): Promise<Record<string, number[]>> {
  const news = train({
    model,
    data: { rows: 16, read: (rows, position) => ({ x: noise([rows.length, 3], position), target: noise([rows.length, 2], position + 1) }) },
    loss: (emit, tensors) => lossOf({ kind: 'mse' })(emit, { prediction: 'y', target: 'target', tensors }),
    optimizer: withZerosKept(optimizerOf({ kind }), zerosOf(model, new Set(names))),
    learningRate: () => 0.01,
    batchSize: 4,
    steps: 7,
    seed: 1,
  })
  let last: Model | undefined
  for await (const { state, modelOf } of news) last = modelOf(state)
  return Object.fromEntries(last!.graph.initializer.map((tensor) => [tensor.name, [...(tensorValues(tensor).data as Float32Array)]]))
}

describe.each(['sgd', 'adam', 'adamw', 'lamb'] as const)('withZerosKept(%s)', (kind) => {
  it('keeps zeros of the tensors named, and no others', async () => {
    const { w, b } = await trained(['w'], kind)
    for (const [index, value] of WEIGHT.entries()) {
      if (value === 0) expect(w![index]).toBe(0)
      else expect(w![index]).not.toBe(value)
    }
    expect(b).not.toContain(0)
  })

  it('changes nothing where no zeros are to stay', async () => {
    const { w } = await trained([], kind)
    expect(w).not.toContain(0)
  })
})
