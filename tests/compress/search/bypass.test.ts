// Taking quantization out again: with all of it gone the outputs are the float model's but for rounded weights, clamping
// included, and each node left out brings them closer.
import { describe, expect, it } from 'vitest'
import { bypass } from '#flyweight/compress/search/bypass.js'
import { labelOf } from '#flyweight/compress/passes/decisions.js'
import { node } from '#flyweight/onnx/builder.js'
import { decodeModel, encodeModel } from '#flyweight/onnx/proto.js'
import { compressed, fidelityOf, network, noiseSamples, weights } from '../compressing.js'

const ROW = [4, 8, 8]
const attributes = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }
const source = network(
  ROW,
  ['n', 8, 8, 8],
  [
    node('Conv', ['x', 'w1', 'b1'], ['c1'], { name: 'conv1', attributes }),
    node('Relu', ['c1'], ['r1'], { name: 'relu' }),
    node('Conv', ['r1', 'w2', 'b2'], ['c2'], { name: 'conv2', attributes }),
    node('Add', ['c2', 'r1'], ['y'], { name: 'add' }),
  ],
  [weights('w1', [8, 4, 3, 3]), weights('b1', [8], { seed: 2 }), weights('w2', [8, 8, 3, 3], { seed: 3 }), weights('b2', [8], { seed: 4 })],
)

describe('a quantized model without its quantization', () => {
  it('is as close to the source as its rounded weights let it, an activation that was left to the clamping included', async () => {
    const { model } = await compressed(source, 'int8-static', noiseSamples(ROW))
    const close = async (...labels: string[]) => {
      const copy = decodeModel(encodeModel(model))
      bypass(copy, new Set(labels))
      return fidelityOf(source, copy, ROW)
    }
    expect(model.graph.node.some(({ opType }) => opType === 'Relu')).toBe(false)
    const [none, some, all] = [await close(), await close('conv2', 'add'), await close(...model.graph.node.map(labelOf))]
    expect(some).toBeGreaterThan(none)
    expect(all).toBeGreaterThan(some)
    expect(all).toBeGreaterThan(35)
  })

  it('is left as it is where no such node is', async () => {
    const { model } = await compressed(source, 'int8-static', noiseSamples(ROW))
    const before = encodeModel(model)
    bypass(model, new Set(['nobody']))
    expect(Buffer.from(encodeModel(model)).equals(before)).toBe(true)
  })
})
