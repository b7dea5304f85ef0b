// Reading back what the runtime executes: integer kernels where quantization worked, and a confession where a
// pattern was not fused.
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { executedKernels } from '#flyweight/compress/kernels.js'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { node, tensorProto } from '#flyweight/onnx/builder.js'
import { saveModel } from '#flyweight/onnx/load.js'
import { compressed, network, noiseSamples, weights, withFolder } from './compressing.js'

const kernelsOf = (model: Model) =>
  withFolder(async (folder) => {
    await saveModel(model, join(folder, 'model.onnx'))
    return executedKernels(join(folder, 'model.onnx'), folder)
  })

const rowDims = [3, 8, 8]
const pads = { attributes: { pads: [1, 1, 1, 1] } }
const source = network(
  rowDims,
  ['n', 4, 8, 8],
  [node('Conv', ['x', 'w'], ['c'], { name: 'first', ...pads }), node('Relu', ['c'], ['r']), node('Conv', ['r', 'v'], ['y'], { name: 'last', ...pads })],
  [weights('w', [4, 3, 3, 3]), weights('v', [4, 4, 3, 3], { seed: 4 })],
)

it('names the integer kernels of a quantized model', async () => {
  const kernels = await kernelsOf((await compressed(source, 'int8-static', noiseSamples(rowDims))).model)
  expect(kernels?.counts['QLinearConv']).toBeGreaterThanOrEqual(1)
  expect(kernels?.integer.length).toBeGreaterThanOrEqual(1)
  expect(kernels?.fellBack).toEqual([])
})

it('names a convolution that stays float because its output is not quantized', async () => {
  const [scale, zero, codes] = [
    tensorProto('s', 'float32', [], [0.01]),
    tensorProto('z', 'int8', [], [0]),
    tensorProto('q', 'int8', [4, 3, 3, 3], new Int8Array(108).fill(5)),
  ]
  const half = network(
    rowDims,
    ['n', 4, 8, 8],
    [node('DequantizeLinear', ['q', 's', 'z'], ['w']), node('Conv', ['x', 'w'], ['y'], { name: 'only', ...pads })],
    [scale, zero, codes],
  )
  const kernels = await kernelsOf(half)
  expect(kernels?.fellBack).toHaveLength(1)
  expect(kernels?.counts['QLinearConv']).toBeUndefined()
})

it('has nothing to say of a float model', async () => {
  expect(await kernelsOf(source)).toBeUndefined()
})
