// Pass int8-static: which int8 kernels the runtime makes of each kind of graph, how close the results are,
// and that every node of the source is accounted for.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { model, node, tensorProto, tensorValues, valueInfo, graph } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import { float16From } from '#flyweight/tensor/float16.js'
import { dtypes, type Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { compressed, executedOperators, fidelityOf, network, noiseSamples, operators, outputs, sqnr, weights } from '../compressing.js'

const ROW = [8, 6, 6]
const OUT = ['n', 8, 6, 6]
const samples = noiseSamples(ROW, 24)
const quantized = (source: Model, recipe = 'int8-static') => compressed(source, recipe, samples)
const scalar = (name: string, value: number) => tensorProto(name, 'float32', [], [value])
/** 1×1 convolution weights and a bias: `w0`, `b0`, … */
const filters = (count: number): TensorProto[] =>
  Array.from({ length: count }, (_, i) => [weights(`w${i}`, [8, 8, 1, 1], { seed: 10 + i, size: 0.6 }), weights(`b${i}`, [8], { seed: 30 + i })]).flat()
const conv = (i: number, input: string, output: string) => node('Conv', [input, `w${i}`, `b${i}`], [output])
/** Ends in a node that stays float, so that everything before it may be int8. */
const ending = (nodes: NodeProto[], last: string, constants: TensorProto[] = [], count = 3) =>
  network(ROW, OUT, [...nodes, node('Softplus', [last], ['y'])], [...filters(count), ...constants])

interface Case {
  name: string
  source: Model
  /** Operators of the executed graph. */
  kernels: Record<string, number>
  leastDb: number
}

const depthwise = weights('dw', [8, 1, 3, 3], { seed: 77 })
const cases: Case[] = [
  { name: 'Conv', source: ending([conv(0, 'x', 'a'), conv(1, 'a', 'b')], 'b'), kernels: { QLinearConv: 2 }, leastDb: 28 },
  { name: 'Conv, Relu', source: ending([conv(0, 'x', 'a'), node('Relu', ['a'], ['r']), conv(1, 'r', 'b')], 'b'), kernels: { QLinearConv: 2 }, leastDb: 28 },
  {
    name: 'Conv, Clip',
    source: ending([conv(0, 'x', 'a'), node('Clip', ['a', 'low', 'high'], ['r']), conv(1, 'r', 'b')], 'b', [scalar('low', 0), scalar('high', 1)]),
    kernels: { QLinearConv: 2 },
    leastDb: 28,
  },
  {
    name: 'residual Add, Relu',
    source: ending(
      [conv(0, 'x', 'a'), node('Relu', ['a'], ['r']), conv(1, 'r', 'b'), node('Add', ['b', 'r'], ['s']), node('Relu', ['s'], ['t']), conv(2, 't', 'c')],
      'c',
    ),
    kernels: { QLinearConv: 3, QLinearAdd: 1 },
    leastDb: 25,
  },
  {
    name: 'hard-swish spelled out',
    source: ending(
      [
        conv(0, 'x', 'a'),
        node('Add', ['a', 'three'], ['p']),
        node('Clip', ['p', 'low', 'six'], ['q']),
        node('Mul', ['a', 'q'], ['m']),
        node('Div', ['m', 'six'], ['h']),
        conv(1, 'h', 'b'),
      ],
      'b',
      [scalar('three', 3), scalar('low', 0), scalar('six', 6)],
    ),
    kernels: { QLinearConv: 2, QLinearMul: 1 },
    leastDb: 25,
  },
  {
    name: 'depthwise Conv',
    source: ending([conv(0, 'x', 'a'), node('Conv', ['a', 'dw'], ['d'], { attributes: { group: 8, pads: [1, 1, 1, 1] } }), conv(1, 'd', 'b')], 'b', [
      depthwise,
    ]),
    kernels: { QLinearConv: 3 },
    leastDb: 25,
  },
  {
    name: 'Concat, MaxPool, Transpose',
    source: network(
      ROW,
      ['n', 3, 16, 3],
      [
        conv(0, 'x', 'a'),
        conv(1, 'x', 'b'),
        node('Concat', ['a', 'b'], ['c'], { attributes: { axis: 1 } }),
        node('MaxPool', ['c'], ['d'], { attributes: { kernel_shape: [2, 2], strides: [2, 2] } }),
        node('Conv', ['d', 'wide'], ['e']),
        node('Transpose', ['e'], ['f'], { attributes: { perm: [0, 2, 1, 3] } }),
        node('Softplus', ['f'], ['y']),
      ],
      [...filters(2), weights('wide', [16, 16, 1, 1], { size: 0.4 })],
    ),
    kernels: { QLinearConv: 3, QLinearConcat: 1 },
    leastDb: 25,
  },
  {
    name: 'products',
    source: network(
      ROW,
      ['n', 12],
      [
        conv(0, 'x', 'a'),
        node('GlobalAveragePool', ['a'], ['g']),
        node('Flatten', ['g'], ['f']),
        node('Gemm', ['f', 'w', 'b'], ['h'], { attributes: { transB: 1 } }),
        node('Relu', ['h'], ['r']),
        node('MatMul', ['r', 'v'], ['y']),
      ],
      [...filters(1), weights('w', [10, 8]), weights('b', [10]), weights('v', [10, 12])],
    ),
    kernels: { QLinearConv: 1, QGemm: 1, MatMulIntegerToFloat: 1 },
    leastDb: 20,
  },
  {
    name: 'a tensor added to itself',
    source: ending([conv(0, 'x', 'a'), node('Add', ['a', 'a'], ['s']), conv(1, 's', 'b')], 'b'),
    kernels: { QLinearConv: 2 },
    leastDb: 25,
  },
]

describe('reduceRange', () => {
  it.each([
    { reduceRange: 'on', largest: 63 },
    { reduceRange: 'off', largest: 127 },
  ])('$reduceRange: weights go up to $largest', async ({ reduceRange, largest }) => {
    const { model: variant } = await compressed(cases[0]!.source, [{ pass: 'int8-static', reduceRange }], samples)
    const codes = variant.graph.initializer.filter(({ dims, dataType }) => dims.length === 4 && dataType === dtypes.int8.onnx)
    expect(codes).toHaveLength(2)
    for (const proto of codes) expect(Math.max(...(tensorValues(proto).data as Int8Array).map(Math.abs))).toBe(largest)
  })
})

describe('kernels', () => {
  it.each(cases)('of $name are int8', async ({ source, kernels, leastDb }) => {
    const { model: variant } = await quantized(source)
    const executed = await executedOperators(variant)
    expect(executed).toMatchObject(kernels)
    for (const float of ['Conv', 'FusedConv', 'Gemm', 'MatMul', 'Relu', 'Clip', 'Div']) expect(executed[float]).toBeUndefined()
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(leastDb)
  })

  it.each(cases)('of $name cover every node of the source once in the report', async ({ source }) => {
    const { decisions } = await quantized(source)
    for (const { name } of source.graph.node) expect(decisions.filter((decision) => decision.node === name)).toHaveLength(1)
    expect(decisions.every(({ reason, pass }) => reason !== '' && pass === 'int8-static')).toBe(true)
  })

  it('leave inputs and outputs of the model float32 and in place', async () => {
    const source = network(ROW, OUT, [conv(0, 'x', 'a'), conv(1, 'a', 'y')], filters(2))
    const { model: variant, decisions } = await quantized(source)
    expect(variant.graph.output.map(({ name, type }) => [name, type?.value.case === 'tensorType' && type.value.value.elemType])).toEqual([
      ['y', dtypes.float32.onnx],
    ])
    expect(variant.graph.input.map(({ name }) => name)).toEqual(['x'])
    expect(decisions.find(({ node: name }) => name === 'y')).toMatchObject({ action: 'skipped', reason: 'it writes an output of the model, which stays float' })
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(30)
  })

  it('serve a tensor that is an output and is read by a Conv too', async () => {
    const source = network(ROW, OUT, [conv(0, 'x', 'y'), conv(1, 'y', 'b'), node('Softplus', ['b'], ['z'])], filters(2))
    source.graph.output.push(valueInfo('z', 'float32', OUT))
    const { model: variant } = await quantized(source)
    const feeds = { x: noise([2, ...ROW], 5) }
    const [before, after] = [await outputs(source, feeds), await outputs(variant, feeds)]
    for (const name of ['y', 'z']) expect(sqnr(before[name]!, after[name]!)).toBeGreaterThan(25)
  })
})

describe('numbers', () => {
  it.each([1, 1e-3])('clamp as the Clip did that was absorbed, after calibration with inputs up to %d', async (size) => {
    const identity = tensorProto(
      'identity',
      'float32',
      [8, 8, 1, 1],
      Array.from({ length: 64 }, (_, i) => Number(i % 9 === 0)),
    )
    const source = ending(
      [node('Conv', ['x', 'identity', 'shift'], ['a']), node('Clip', ['a', 'low', 'high'], ['r']), node('Conv', ['r', 'identity'], ['b'])],
      'b',
      [identity, tensorProto('shift', 'float32', [8], new Float32Array(8).fill(-0.1)), scalar('low', 0), scalar('high', 0.25)],
      0,
    )
    const scaled = (tensor: Tensor, by: number): Tensor => ({ ...tensor, data: (tensor.data as Float32Array<ArrayBuffer>).map((value) => by * value) })
    const { model: variant } = await compressed(source, 'int8-static', {
      ...samples,
      take: (from, count) => ({ x: scaled(samples.take(from, count)['x']!, size) }),
    })
    const { y } = await outputs(variant, { x: scaled(noise([2, ...ROW], 9), 100) })
    const softplus = (value: number) => Math.log1p(Math.exp(value))
    for (const value of y!.data as Float32Array) {
      expect(value).toBeGreaterThan(softplus(0) - 1e-5)
      expect(value).toBeLessThan(softplus(0.25) + 1e-3)
    }
  })

  it('of a Div by a constant are another reading of the same codes', async () => {
    const source = ending(
      [
        conv(0, 'x', 'a'),
        node('Relu', ['a'], ['r']),
        node('Div', ['r', 'six'], ['d']),
        conv(1, 'd', 'b'),
        conv(2, 'r', 'c'),
        node('Add', ['b', 'c'], ['s']),
        conv(0, 's', 't'),
      ],
      't',
      [scalar('six', 6)],
    )
    const { model: variant, decisions } = await quantized(source)
    expect(operators(variant.graph.node)['Div']).toBeUndefined()
    expect(decisions.find(({ node: name }) => name === 'd')?.action).toBe('done')
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(25)
  })

  it.each([1e3, 1e6])('survive a bias %d times as large as the products', async (size) => {
    const source = ending([node('Conv', ['x', 'tiny', 'b0'], ['a']), conv(1, 'a', 'b')], 'b', [weights('tiny', [8, 8, 1, 1], { size: 1 / size })])
    const { model: variant } = await quantized(source)
    expect((await executedOperators(variant))['QLinearConv']).toBe(2)
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(25)
  })

  it('survive channels and inputs that are all zero', async () => {
    const zero = weights('zero', [8, 8, 1, 1], { size: 0 })
    const source = ending([node('Conv', ['x', 'zero'], ['a']), node('Relu', ['a'], ['r']), conv(1, 'r', 'b')], 'b', [zero])
    expect(await fidelityOf(source, (await quantized(source)).model, ROW)).toBeGreaterThan(25)
  })

  it.each([
    ['alpha', { alpha: { float: 0.5 }, transB: 1 }, [10, 8], [10]],
    ['beta', { beta: { float: 2 } }, [8, 10], [10]],
    ['a bias of one number', {}, [8, 10], [1]],
    ['a bias of a row', {}, [8, 10], [1, 10]],
  ])('of Gemm with %s are right', async (_, attributes, weightDims, biasDims) => {
    const source = network(
      [8],
      ['n', 10],
      [node('Gemm', ['x', 'w', 'b'], ['h'], { attributes }), node('Softplus', ['h'], ['y'])],
      [weights('w', weightDims), weights('b', biasDims, { seed: 3 })],
    )
    const { model: variant } = await compressed(source, 'int8-static', noiseSamples([8], 32))
    expect(await fidelityOf(source, variant, [8])).toBeGreaterThan(25)
  })

  it('of MatMul with stacked weights are right', async () => {
    const source = network([4, 8], ['n', 4, 8], [node('MatMul', ['x', 'w'], ['y'])], [weights('w', [1, 8, 8])])
    const { model: variant } = await compressed(source, 'int8-static', noiseSamples([4, 8], 32))
    expect(await fidelityOf(source, variant, [4, 8])).toBeGreaterThan(25)
  })
})

describe('structure', () => {
  it('stores weights that two nodes share once', async () => {
    const source = ending([node('Conv', ['x', 'w0'], ['a']), node('Relu', ['a'], ['r']), node('Conv', ['r', 'w0'], ['b'])], 'b', [], 1)
    const { model: variant } = await quantized(source)
    expect(variant.graph.initializer.filter(({ dataType, dims }) => dataType === dtypes.int8.onnx && dims.length === 4)).toHaveLength(1)
    expect((await executedOperators(variant))['QLinearConv']).toBe(2)
  })

  it('keeps what the branches of an If read', async () => {
    const branch = (name: string, opType: string) =>
      graph({ name, inputs: [], outputs: [valueInfo(name, 'float32', OUT)], nodes: [node(opType, ['r', 'd'], [name])] })
    const source = model({
      inputs: [valueInfo('x', 'float32', ['n', ...ROW]), valueInfo('flag', 'bool', [])],
      outputs: [valueInfo('y', 'float32', OUT)],
      nodes: [
        conv(0, 'x', 'a'),
        node('Relu', ['a'], ['r']),
        node('Div', ['r', 'six'], ['d']),
        conv(1, 'r', 'b'),
        node('If', ['flag'], ['i'], { attributes: { then_branch: branch('t', 'Add'), else_branch: branch('e', 'Sub') } }),
        node('Add', ['i', 'b'], ['y']),
      ],
      initializers: [...filters(2), scalar('six', 6)],
    })
    const flag = (value: number) => ({ dtype: 'bool' as const, dims: [], data: Uint8Array.of(value) })
    const { model: variant } = await compressed(source, 'int8-static', {
      ...samples,
      take: (from, count) => ({ ...samples.take(from, count), flag: flag(from & 1) }),
    })
    for (const value of [0, 1]) {
      const feeds = { x: noise([2, ...ROW], 5), flag: flag(value) }
      expect(sqnr((await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!)).toBeGreaterThan(25)
    }
  })

  it('names nodes that have no name by what they write, and excludes them by it', async () => {
    const source = ending([conv(0, 'x', 'a'), conv(1, 'a', 'b'), conv(2, 'b', 'c')], 'c')
    for (const one of source.graph.node) one.name = ''
    const { decisions } = await quantized(source, 'int8-static(exclude=b)')
    expect(decisions.map(({ node: name, action }) => [name, action])).toEqual([
      ['a', 'done'],
      ['b', 'skipped'],
      ['c', 'done'],
      ['y', 'skipped'],
    ])
  })

  it('takes no name that the model has already, also when applied twice', async () => {
    const source = ending([conv(0, 'x', 'x::scale'), conv(1, 'x::scale', 'x::q'), conv(2, 'x::q', 'x::dq')], 'x::dq')
    expect(await fidelityOf(source, (await quantized(source)).model, ROW)).toBeGreaterThan(25)
    const twice = await quantized(ending([conv(0, 'x', 'a'), conv(1, 'a', 'b'), conv(2, 'b', 'c')], 'c'), 'int8-static(exclude=b)+int8-static')
    expect(await fidelityOf(ending([conv(0, 'x', 'a'), conv(1, 'a', 'b'), conv(2, 'b', 'c')], 'c'), twice.model, ROW)).toBeGreaterThan(20)
  })

  it('leaves depthwise convolutions in float where asked', async () => {
    const { source } = cases.find(({ name }) => name === 'depthwise Conv')!
    const { model: variant, decisions } = await quantized(source, 'int8-static(depthwise=false)')
    expect((await executedOperators(variant))['QLinearConv']).toBe(2)
    expect(decisions.find(({ node: name }) => name === 'd')).toMatchObject({ action: 'skipped', reason: expect.stringContaining('depthwise') })
  })

  it('leaves excluded nodes in float, though the runtime would quantize what stands between int8 nodes', async () => {
    for (const middle of [[conv(1, 'a', 'b')], [conv(1, 'a', 'm'), node('Relu', ['m'], ['b'])]]) {
      const source = ending([conv(0, 'x', 'a'), ...middle, conv(2, 'b', 'c')], 'c')
      const { model: variant } = await quantized(source, `int8-static(exclude=${middle[0]!.name})`)
      const executed = await executedOperators(variant)
      expect(executed['QLinearConv']).toBe(2)
      expect((executed['Conv'] ?? 0) + (executed['FusedConv'] ?? 0)).toBe(1)
      expect(executed['LeakyRelu']).toBeUndefined()
      expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(25)
    }
  })

  it('excludes a clamp that its producer would have absorbed', async () => {
    const source = ending([conv(0, 'x', 'a'), conv(1, 'a', 'm'), node('Relu', ['m'], ['b'], { name: 'clamp' }), conv(2, 'b', 'c')], 'c')
    const { model: variant, decisions } = await quantized(source, 'int8-static(exclude=clamp)')
    expect(decisions.find(({ node: name }) => name === 'clamp')).toMatchObject({ action: 'skipped', reason: 'excluded by the recipe' })
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(25)
  })

  it('leaves weights of other types alone', async () => {
    const half = tensorProto('w', 'float16', [8, 8, 1, 1], float16From(tensorValues(weights('w', [8, 8, 1, 1])).data as Float32Array))
    const source = network(
      ROW,
      OUT,
      [
        node('Cast', ['x'], ['h'], { attributes: { to: dtypes.float16.onnx } }),
        node('Conv', ['h', 'w'], ['c']),
        node('Cast', ['c'], ['f'], { attributes: { to: 1 } }),
        node('Softplus', ['f'], ['y']),
      ],
      [half],
    )
    const { model: variant } = await quantized(source)
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(50)
  })

  it('upgrades old opsets first', async () => {
    const source = ending([conv(0, 'x', 'a'), node('Clip', ['a'], ['r'], { attributes: { min: { float: 0 }, max: { float: 6 } } }), conv(1, 'r', 'b')], 'b')
    source.opsetImport[0]!.version = 9n
    source.irVersion = 4n
    const { model: variant } = await quantized(source)
    expect((await executedOperators(variant))['QLinearConv']).toBe(2)
    expect(await fidelityOf(source, variant, ROW)).toBeGreaterThan(25)
  })

  it('gives the same bytes again and leaves the source as it was', async () => {
    const { source } = cases.find(({ name }) => name === 'hard-swish spelled out')!
    const before = encodeModel(source)
    const [first, second] = [encodeModel((await quantized(source)).model), encodeModel((await quantized(source)).model)]
    expect(Buffer.from(first).equals(second)).toBe(true)
    expect(Buffer.from(encodeModel(source)).equals(before)).toBe(true)
  })

  it('refuses samples on which a tensor is not finite', async () => {
    const source = ending([node('Log', ['x'], ['l']), conv(0, 'l', 'a'), conv(1, 'a', 'b')], 'b')
    await expect(
      compressed(source, 'int8-static', {
        ...samples,
        take: (_, count) => ({ x: { dtype: 'float32', dims: [count, ...ROW], data: new Float32Array(count * 288) } }),
      }),
    ).rejects.toThrow(/is not finite on samples/)
  })
})

it('of the digits network is close', async () => {
  const source = await loadModel(fileURLToPath(new URL('../../fixtures/digits_cnn.onnx', import.meta.url)))
  const digits = noiseSamples([1, 28, 28], 16)
  const { model: variant, decisions } = await compressed(source, 'int8-static', digits)
  const feeds = digits.take(8, 4)
  expect(sqnr((await outputs(source, feeds))['logits']!, (await outputs(variant, feeds))['logits']!)).toBeGreaterThan(20)
  expect(decisions.some(({ action }) => action === 'done')).toBe(true)
})
