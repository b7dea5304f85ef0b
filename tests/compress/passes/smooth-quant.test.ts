// Pass smooth-quant: the function stays the same, channels become even as the formula says, int8 gets closer to float,
// and what cannot take scales up is left as it was, with a reason.
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { node, tensorProto, tensorValues } from '#flyweight/onnx/builder.js'
import type { NodeProto, TensorProto } from '#flyweight/onnx/proto.js'
import { compressed, fidelityOf, network, noiseSamples, operators, outputs, weights } from '../compressing.js'

const ROW = [5, 16]
const samples = noiseSamples(ROW, 24)
/** A gain per channel with outliers, as language models have them. */
const gain = (name: string) =>
  tensorProto(
    name,
    'float32',
    [16],
    Array.from({ length: 16 }, (_, i) => (i % 8 === 3 ? 60 : 1 + i / 16)),
  )
const layerNorm = (input: string, output: string) => node('LayerNormalization', [input, 'gain', 'offset'], [output])
const common = () => [gain('gain'), weights('offset', [16], { seed: 5 }), weights('w', [16, 12], { seed: 6 }), weights('v', [16, 12], { seed: 7 })]
const net = (nodes: NodeProto[], more: TensorProto[] = [], width = 12): Model => network(ROW, ['n', 5, width], nodes, [...common(), ...more])

const cases: { name: string; source: Model; done: string[] }[] = [
  { name: 'LayerNormalization', source: net([layerNorm('x', 'a'), node('MatMul', ['a', 'w'], ['y'])]), done: ['a', 'y'] },
  {
    name: 'two products of one tensor',
    source: net([layerNorm('x', 'a'), node('MatMul', ['a', 'w'], ['p']), node('MatMul', ['a', 'v'], ['q']), node('Mul', ['p', 'q'], ['y'])]),
    done: ['a', 'p', 'q'],
  },
  {
    name: 'a norm spelled out: Mul, then Add',
    source: net([node('Tanh', ['x'], ['t']), node('Mul', ['t', 'gain'], ['m']), node('Add', ['m', 'offset'], ['a']), node('MatMul', ['a', 'w'], ['y'])]),
    done: ['a', 'm', 'y'],
  },
  {
    name: 'products in a row, through an offset and Relu',
    source: net(
      [layerNorm('x', 'a'), node('MatMul', ['a', 'w'], ['b']), node('Add', ['b', 'c'], ['d']), node('Relu', ['d'], ['r']), node('MatMul', ['r', 'u'], ['y'])],
      [weights('c', [12], { seed: 8, size: 20 }), weights('u', [12, 6], { seed: 9 })],
      6,
    ),
    done: ['a', 'b', 'd', 'r', 'y'],
  },
]

describe('smooth-quant', () => {
  it.each(cases)('leaves the function of $name the same and accounts for every node', async ({ source, done }) => {
    const { model, decisions } = await compressed(source, 'smooth-quant', samples)
    expect(await fidelityOf(source, model, ROW)).toBeGreaterThan(110)
    expect(operators(model.graph.node)).toEqual(operators(source.graph.node))
    for (const { name } of source.graph.node) expect(decisions.filter((decision) => decision.node === name)).toHaveLength(1)
    expect(
      decisions
        .filter(({ action }) => action === 'done')
        .map((decision) => decision.node)
        .sort(),
    ).toEqual(done)
  })

  it.each([0.3, 0.5, 0.8])('divides by max|X|^α ÷ max|W|^(1 − α), α = %d', async (alpha) => {
    const { model } = await compressed(cases[0]!.source, [{ pass: 'smooth-quant', alpha }], samples)
    const normed = (await outputs(net([layerNorm('x', 'y')], [], 16), samples.take(0, samples.rows)))['y']!.data as Float32Array
    const before = tensorValues(weights('w', [16, 12], { seed: 6 })).data as Float32Array
    const product = model.graph.node.find(({ opType }) => opType === 'MatMul')!
    const after = tensorValues(model.graph.initializer.find(({ name }) => name === product.input[1])!).data as Float32Array
    for (let channel = 0; channel < 16; channel++) {
      const most = normed.reduce((largest, value, i) => (i % 16 === channel ? Math.max(largest, Math.abs(value)) : largest), 0)
      const weight = Math.max(...before.subarray(channel * 12, channel * 12 + 12).map(Math.abs))
      const scale = most ** alpha / weight ** (1 - alpha)
      expect(after[channel * 12]! / before[channel * 12]! / scale).toBeCloseTo(1, 4)
    }
  })

  it('takes the whole unevenness out of the activations with alpha 1', async () => {
    const source = cases[0]!.source
    const { model } = await compressed(source, [{ pass: 'smooth-quant', alpha: 1 }], samples)
    // With α = 1, s = max|X| for each channel, which the weights are multiplied by.
    const before = tensorValues(source.graph.initializer.find(({ name }) => name === 'w')!).data as Float32Array
    const product = model.graph.node.find(({ opType }) => opType === 'MatMul')!
    const after = tensorValues(model.graph.initializer.find(({ name }) => name === product.input[1])!).data as Float32Array
    const scales = Array.from({ length: 16 }, (_, row) => after[row * 12]! / before[row * 12]!)
    const norm = model.graph.node.find(({ opType }) => opType === 'LayerNormalization')!
    const gains = tensorValues(model.graph.initializer.find(({ name }) => name === norm.input[1])!).data as Float32Array
    const original = tensorValues(gain('gain')).data as Float32Array
    scales.forEach((scale, channel) => expect(gains[channel]! * scale).toBeCloseTo(original[channel]!, 3))
    expect(scales[3]! / scales[2]!).toBeGreaterThan(15)
  })

  it('brings int8 closer to float where channels are uneven', async () => {
    const source = net([layerNorm('x', 'a'), node('MatMul', ['a', 'w'], ['y'])])
    const plain = await compressed(source, 'int8-static', samples)
    const smooth = await compressed(source, 'smooth-quant+int8-static', samples)
    expect(await fidelityOf(source, smooth.model, ROW)).toBeGreaterThan(await fidelityOf(source, plain.model, ROW))
  })

  it('leaves alone what another node reads, what nothing can divide, and what the recipe excludes', async () => {
    const shared = net([layerNorm('x', 'a'), node('MatMul', ['a', 'square'], ['p']), node('Add', ['a', 'p'], ['y'])], [weights('square', [16, 16])], 16)
    const bare = net([node('Softplus', ['x'], ['a']), node('MatMul', ['a', 'w'], ['y'])])
    const excluded = await compressed(cases[0]!.source, [{ pass: 'smooth-quant', exclude: ['y'] }], samples)
    const reason = (of: typeof excluded, name: string) => of.decisions.find((decision) => decision.node === name)
    expect(reason(await compressed(shared, 'smooth-quant', samples), 'p')).toMatchObject({
      action: 'skipped',
      reason: expect.stringContaining('another reader'),
    })
    expect(reason(await compressed(bare, 'smooth-quant', samples), 'y')).toMatchObject({ action: 'skipped', reason: expect.stringContaining('cannot divide') })
    expect(reason(excluded, 'y')).toMatchObject({ action: 'skipped', reason: expect.stringContaining('excluded') })
  })
})
