import { expect, it } from 'vitest'
import { model, valueInfo } from '#flyweight/onnx/builder.js'
import { Emitter } from '#flyweight/onnx/emitter.js'
import { emitClip } from '#flyweight/train/gradient-clipping.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { floats, run } from '../onnx/running.js'

it.each([
  [[3, 4], 1, [0.6, 0.8], 5],
  [[3, 4], 10, [3, 4], 5],
  [[0, 0], 1, [0, 0], 0],
])('of %j at most %d is %j', async (gradients, most, clipped, norm) => {
  let count = 0
  const emit = new Emitter((base) => `${base}${++count}`)
  const names = emitClip(emit, 'g', most)
  const outputs = [valueInfo(names.gradients, 'float32', [2]), valueInfo(names.norm, 'float32', [])]
  const results = await run(model({ inputs: [valueInfo('g', 'float32', [2])], outputs, nodes: emit.nodes, initializers: emit.initializers }), {
    g: floats([2], gradients),
  })
  const got = Array.from(results[names.gradients]?.data as Float32Array)
  for (const [index, value] of clipped.entries()) expect(got[index]).toBeCloseTo(value, 6)
  expect((results[names.norm] as Tensor).data[0]).toBeCloseTo(norm, 5)
})
