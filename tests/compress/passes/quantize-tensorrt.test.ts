// Pass int8-static in the dialect of TensorRT: which inputs carry Q/DQ pairs, that every zero point is 0, and that
// a CPU computes close results from it.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { node, tensorProto, tensorValues } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import { dtypes, type Tensor } from '#flyweight/tensor/tensor.js'
import { compressed, fidelityOf, network, noiseSamples, outputs, sqnr, weights } from '../compressing.js'

const ROW = [8, 6, 6]
const OUT = ['n', 8, 6, 6]
const samples = noiseSamples(ROW, 24)
const quantized = (source: Model, more = '') => compressed(source, `int8-static(dialect=tensorrt${more})`, samples)
const filters = (count: number): TensorProto[] =>
  Array.from({ length: count }, (_, i) => [weights(`w${i}`, [8, 8, 1, 1], { seed: 10 + i, size: 0.6 }), weights(`b${i}`, [8], { seed: 30 + i })]).flat()
const conv = (i: number, input: string, output: string) => node('Conv', [input, `w${i}`, `b${i}`], [output])

const squared = (tensor: Tensor): Tensor => ({ ...tensor, data: (tensor.data as Float32Array<ArrayBuffer>).map((value) => value ** 2) })

/** What each input of a node comes from: `quantized`, `weights` (stored int8) or the tensor's own name. */
function inputsOf(variant: Model, name: string): string[] {
  const { node: nodes, initializer } = variant.graph
  const writer = (tensor: string) => nodes.find(({ output }) => output.includes(tensor))
  const target = nodes.find((one) => one.name === name) as NodeProto
  return target.input.map((tensor) => {
    const dequantize = writer(tensor)
    if (dequantize?.opType !== 'DequantizeLinear') return tensor.replace(/::corrected.*/, '')
    const codes = dequantize.input[0]!
    const quantize = writer(codes)
    return quantize === undefined ? `int8 ${initializer.find((one) => one.name === codes)?.dims.join('x')}` : `pair of ${quantize.input[0]}`
  })
}

const residual = network(
  ROW,
  OUT,
  [
    conv(0, 'x', 'a'),
    node('Relu', ['a'], ['r']),
    conv(1, 'r', 'b'),
    node('Relu', ['b'], ['c']),
    conv(2, 'c', 'd'),
    node('Add', ['r', 'd'], ['s']),
    node('Relu', ['s'], ['t']),
    conv(0, 't', 'y'),
  ],
  filters(3),
)

describe('Q/DQ pairs', () => {
  it('are on inputs of convolutions and on the residual input of the addition, never on outputs', async () => {
    const { model: variant, decisions, summary } = await quantized(residual)
    expect(inputsOf(variant, 'a')).toEqual(['pair of x', 'int8 8x8x1x1', 'b0'])
    expect(inputsOf(variant, 'b')).toEqual(['pair of r', 'int8 8x8x1x1', 'b1'])
    expect(inputsOf(variant, 's')).toEqual(['pair of r', 'd'])
    expect(inputsOf(variant, 'y')).toEqual(['pair of t', 'int8 8x8x1x1', 'b0'])
    expect(variant.graph.node.filter(({ opType }) => opType === 'QuantizeLinear')).toHaveLength(4)
    expect(decisions.map(({ node: name, action }) => [name, action])).toEqual([
      ['a', 'done'],
      ['r', 'skipped'],
      ['b', 'done'],
      ['c', 'skipped'],
      ['d', 'done'],
      ['s', 'done'],
      ['t', 'skipped'],
      ['y', 'done'],
    ])
    expect(decisions.find(({ node: name }) => name === 's')?.reason).toContain('residual input "r"')
    expect(summary).toContain('no gain without TensorRT')
    expect(await fidelityOf(residual, variant, ROW)).toBeGreaterThan(25)
  })

  it('are on the shorter of two ways of convolutions into an addition', async () => {
    const source = network(
      ROW,
      OUT,
      [conv(0, 'x', 'a'), node('Relu', ['a'], ['r']), conv(1, 'r', 'b'), conv(2, 'x', 'shortcut'), node('Add', ['b', 'shortcut'], ['y'])],
      filters(3),
    )
    const { model: variant } = await quantized(source)
    expect(inputsOf(variant, 'y')).toEqual(['b', 'pair of shortcut'])
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(25)
  })

  it('are left out where another node reads the convolution, where a constant is added, and of excluded nodes', async () => {
    const source = network(
      ROW,
      OUT,
      [
        conv(0, 'x', 'a'),
        node('Add', ['a', 'x'], ['s']),
        node('Mul', ['a', 's'], ['m']),
        node('Softplus', ['m'], ['p']),
        conv(1, 'p', 'b'),
        conv(2, 'b', 'c'),
        node('Add', ['c', 'ramp'], ['y']),
      ],
      [...filters(3), weights('ramp', [8, 6, 6])],
    )
    const { model: variant } = await quantized(source, ',exclude=b')
    expect(inputsOf(variant, 's')).toEqual(['a', 'x'])
    expect(inputsOf(variant, 'b')).toEqual(['p', 'w1', 'b1'])
    expect(inputsOf(variant, 'y')).toEqual(['c', 'ramp'])
  })
})

describe('numbers', () => {
  it('are symmetric: int8, zero point 0, one scale a channel of the weights and one a tensor otherwise', async () => {
    const source = network(
      ROW,
      ['n', 12],
      [
        node('ConvTranspose', ['x', 'up'], ['u'], { attributes: { strides: [2, 2] } }),
        node('GlobalAveragePool', ['u'], ['g']),
        node('Flatten', ['g'], ['f']),
        node('Gemm', ['f', 'w', 'b'], ['h'], { attributes: { transB: 1 } }),
        node('MatMul', ['h', 'v'], ['y']),
      ],
      [weights('up', [8, 4, 2, 2]), weights('w', [10, 4]), weights('b', [10]), weights('v', [10, 12])],
    )
    const { model: variant } = await quantized(source)
    const stored = new Map(variant.graph.initializer.map((proto) => [proto.name, tensorValues(proto)]))
    const scalesOf = (name: string) => stored.get(variant.graph.node.find(({ output }) => output[0] === `${name}::weight.dq`)!.input[1]!)!.dims
    expect({ up: scalesOf('up'), w: scalesOf('w'), v: scalesOf('v') }).toEqual({ up: [], w: [10], v: [12] })
    for (const { opType, input } of variant.graph.node.filter((one) => /QuantizeLinear|DequantizeLinear/.test(one.opType))) {
      const zero = stored.get(input[2]!)!
      expect({ opType, dtype: zero.dtype, zeros: [...zero.data].every((value) => value === 0) }).toEqual({ opType, dtype: 'int8', zeros: true })
    }
    expect(variant.graph.initializer.some(({ dataType }) => dataType === dtypes.int32.onnx)).toBe(false)
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(25)
  })

  it('have biases corrected by what the rounding of weights shifts, shared ones each for itself', async () => {
    const positive = { ...samples, take: (from: number, count: number) => ({ x: squared(samples.take(from, count)['x']!) }) }
    const source = network(
      ROW,
      OUT,
      [node('Conv', ['x', 'w0', 'b'], ['a']), node('Conv', ['x', 'w1', 'b'], ['c']), node('Conv', ['x', 'w2'], ['d']), node('Sum', ['a', 'c', 'd'], ['y'])],
      filters(3).concat(weights('b', [8])),
    )
    const shift = async (correction: boolean): Promise<number> => {
      const { model: variant } = await compressed(source, `int8-static(dialect=tensorrt,biasCorrection=${correction})`, positive)
      const feeds = positive.take(0, 24)
      const [want, got] = [(await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!]
      const channels = new Float64Array(8)
      for (const [i, value] of (got.data as Float32Array).entries()) channels[Math.floor(i / 36) % 8]! += (value - Number(want.data[i])) / (24 * 36)
      return Math.max(...channels.map(Math.abs))
    }
    expect(await shift(true)).toBeLessThan(0.3 * (await shift(false)))
  })

  it.each([1e3, 1e6])('survive a bias %d times as large as the products', async (size) => {
    const source = network(
      ROW,
      OUT,
      [node('Conv', ['x', 'tiny', 'b0'], ['a']), conv(1, 'a', 'b'), node('Softplus', ['b'], ['y'])],
      [...filters(2), weights('tiny', [8, 8, 1, 1], { size: 1 / size })],
    )
    expect(await fidelityOf(source, (await quantized(source)).model, ROW)).toBeGreaterThan(25)
  })

  it('survive inputs that are all zero', async () => {
    const source = network(ROW, OUT, [node('Mul', ['x', 'none'], ['z']), conv(0, 'z', 'y')], [...filters(1), tensorProto('none', 'float32', [], [0])])
    expect(await fidelityOf(source, (await quantized(source)).model, ROW)).toBeGreaterThan(60)
  })

  it('are the same bytes again', async () => {
    const [first, second] = [encodeModel((await quantized(residual)).model), encodeModel((await quantized(residual)).model)]
    expect(Buffer.from(first).equals(second)).toBe(true)
  })

  it.each(['digits_cnn', 'digits_vit'])('of %s are close', async (name) => {
    const source = await loadModel(fileURLToPath(new URL(`../../fixtures/${name}.onnx`, import.meta.url)))
    const digits = noiseSamples([1, 28, 28], 16)
    const { model: variant, decisions } = await compressed(source, 'int8-static(dialect=tensorrt)', digits)
    const feeds = digits.take(8, 4)
    const [expected] = Object.values(await outputs(source, feeds))
    const [actual] = Object.values(await outputs(variant, feeds))
    expect(sqnr(expected!, actual!)).toBeGreaterThan(20)
    for (const { name: label } of source.graph.node) expect(decisions.filter((decision) => decision.node === label)).toHaveLength(1)
  })
})
