// Pass int4: the packed weights read back by hand, what the runtime computes with them, tied weights, subgraphs.
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { graph, model, node, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { intAttribute } from '#flyweight/onnx/attributes.js'
import { allGraphs } from '#flyweight/onnx/graph.js'
import { encodeModel, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { buildTransformer } from '../../../bench/models/transformer.mjs'
import { int64s, noise } from '../../onnx/running.js'
import { compressed, executedOperators, network, noiseSamples, operators, outputs, sqnr, weights } from '../compressing.js'

const N = 40
const blocked = (source: Model, recipe = 'int4') => compressed(source, recipe, noiseSamples([1]))
const tensorsOf = (of: Model) => [...allGraphs(of.graph)].flatMap(({ graph: inner }) => inner.initializer)
const tensor = (of: Model, name: string | undefined) => tensorsOf(of).find((proto) => proto.name === name)!
const bytes = (proto: TensorProto) => proto.rawData.length

/** What a MatMulNBits or GatherBlockQuantized node stores, [rows, width] and the step of each weight, read bit by bit. */
function dequantized(of: Model, reader: NodeProto, width: number): { values: number[][]; steps: number[][] } {
  const product = reader.opType === 'MatMulNBits'
  const [first, second, third, fourth] = reader.input
  const stored = (name: string | undefined) => {
    const reshape = of.graph.node.find(({ output }) => output[0] === name)
    return tensorValues(tensor(of, reshape?.input[0] ?? name))
  }
  const [data, scales] = [stored(product ? second : first), stored(third)]
  const zeros = fourth === undefined ? undefined : tensorValues(tensor(of, fourth))
  const [bits, block] = [intAttribute(reader, 'bits', 0), intAttribute(reader, 'block_size', 0)]
  const rows = data.dims[0]!
  const at = ({ data: packed }: Tensor, row: number, column: number) => {
    const bit = column * bits
    const byte = Number(packed[row * (packed.length / rows) + Math.floor(bit / 8)])
    return (byte >> (bit % 8)) & (2 ** bits - 1)
  }
  const blocks = Math.ceil(width / block)
  const made = { values: [] as number[][], steps: [] as number[][] }
  for (let row = 0; row < rows; row++) {
    const scaleOf = (column: number) => Number(scales.data[row * blocks + Math.floor(column / block)])
    const zeroOf = (column: number) => (zeros === undefined ? 2 ** (bits - 1) : at(zeros, row, Math.floor(column / block)))
    made.values.push(Array.from({ length: width }, (_, column) => scaleOf(column) * (at(data, row, column) - zeroOf(column))))
    made.steps.push(Array.from({ length: width }, (_, column) => Math.abs(scaleOf(column))))
  }
  return made
}

describe('products', () => {
  it.each([
    { K: 64, changes: '' },
    { K: 50, changes: '' },
    { K: 50, changes: 'symmetric=false' },
    { K: 300, changes: 'symmetric=false,block=128' },
    { K: 70, changes: 'block=16' },
    { K: 300, changes: 'bits=8,block=256' },
    { K: 50, changes: 'bits=8,symmetric=false' },
  ])('of $K weights in blocks ($changes) hold every weight to half a step, and multiply by them', async ({ K, changes }) => {
    const [w, bias] = [weights('w', [N, K], { seed: 2 }), weights('b', [N], { seed: 3 })]
    const source = network([K], ['n', N], [node('Gemm', ['x', 'w', 'b'], ['y'], { attributes: { transB: 1, alpha: { float: 0.5 } } })], [w, bias])
    const { model: variant, decisions } = await blocked(source, `int4(accuracyLevel=1,minWeights=0,${changes})`)
    expect(decisions).toMatchObject([{ node: 'y', action: 'done' }])
    const reader = variant.graph.node.find(({ opType }) => opType === 'MatMulNBits')!
    const { values, steps } = dequantized(variant, reader, K)
    const original = tensorValues(w).data as Float32Array
    const symmetric = !changes.includes('symmetric=false')
    let worst = 0
    values.forEach((row, n) =>
      row.forEach((value, k) => {
        const step = steps[n]![k]!
        const error = Math.abs(value - 0.5 * original[n * K + k]!) / step
        // Opposite the largest value the last code is one step short.
        worst = Math.max(worst, symmetric && Math.abs(value) > (2 ** (changes.includes('bits=8') ? 7 : 3) - 1.5) * step ? error / 2 : error)
      }),
    )
    expect(worst).toBeLessThanOrEqual(0.5001)

    const x = noise([3, K], 7)
    const { y } = await outputs(variant, { x })
    values.forEach((row, n) => {
      for (const m of [0, 1, 2]) {
        const expected = row.reduce((sum, value, k) => sum + value * Number(x.data[m * K + k]), Number(tensorValues(bias).data[n]))
        expect(Math.abs(Number(y!.data[m * N + n]) - expected)).toBeLessThan(1e-4)
      }
    })
  })

  it('run with int8 activations by default, close to their weights', async () => {
    const source = network([64], ['n', N], [node('MatMul', ['x', 'w'], ['y'])], [weights('w', [64, N])])
    const { model: variant } = await blocked(source)
    const reader = variant.graph.node[0]!
    expect(intAttribute(reader, 'accuracy_level', 0)).toBe(4)
    expect(variant.graph.initializer.map(({ dims }) => dims.map(Number))).toEqual([
      [N, 2, 16],
      [N, 2],
    ])
    const { values } = dequantized(variant, reader, 64)
    const x = noise([3, 64], 7)
    const expected = [0, 1, 2].flatMap((m) => values.map((row) => row.reduce((sum, value, k) => sum + value * Number(x.data[m * 64 + k]), 0)))
    expect(sqnr({ dtype: 'float32', dims: [3, N], data: Float32Array.from(expected) }, (await outputs(variant, { x }))['y']!)).toBeGreaterThan(35)
  })

  it('that share a weight share its blocks, in subgraphs too', async () => {
    const K = 48
    const branch = (name: string) => graph({ name, inputs: [], outputs: [valueInfo('out', 'float32', ['n', K])], nodes: [node('MatMul', ['x', 'w'], ['out'])] })
    const source = model({
      inputs: [valueInfo('x', 'float32', ['n', K]), valueInfo('flag', 'bool', [])],
      outputs: [valueInfo('y', 'float32', ['n', K])],
      nodes: [
        node('MatMul', ['x', 'w'], ['before']),
        node('If', ['flag'], ['chosen'], { attributes: { then_branch: branch('t'), else_branch: branch('e') } }),
        node('Add', ['before', 'chosen'], ['y']),
      ],
      initializers: [weights('w', [K, K])],
    })
    const { model: variant, decisions } = await blocked(source)
    expect(decisions.map(({ node: label, action }) => `${label} ${action}`)).toEqual([
      'before done',
      'chosen skipped',
      'chosen/then_branch/out done',
      'chosen/else_branch/out done',
      'y skipped',
    ])
    expect(tensorsOf(variant).length).toBe(2)
    const feeds = { x: noise([3, K], 7), flag: { dtype: 'bool' as const, dims: [], data: Uint8Array.of(1) } }
    expect(sqnr((await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!)).toBeGreaterThan(15)
  })
})

describe('embeddings', () => {
  const ROWS = 30
  const ids = int64s([2, 2], [0, 29, -1, 7])
  const lookup = (width: number) =>
    model({
      inputs: [valueInfo('ids', 'int64', ['n', 'length'])],
      outputs: [valueInfo('y', 'float32', ['n', 'length', width])],
      nodes: [node('Gather', ['table', 'ids'], ['y'])],
      initializers: [weights('table', [ROWS, width])],
    })

  it.each([
    { width: 64, recipe: 'int4' },
    { width: 50, recipe: 'int4(symmetric=false)' },
    { width: 50, recipe: 'int4(bits=8,symmetric=false)' },
  ])('of rows of $width by $recipe are what is stored, to half a step', async ({ width, recipe }) => {
    const source = lookup(width)
    const { model: variant } = await blocked(source, recipe)
    const { values } = dequantized(variant, variant.graph.node[0]!, width)
    const { y } = await outputs(variant, { ids })
    const expected = [0, 29, 29, 7].flatMap((row) => values[row]!)
    expected.forEach((value, i) => expect(Number(y!.data[i])).toBeCloseTo(value, 5))
    const table = tensorValues(source.graph.initializer[0]!).data
    values.flat().forEach((value, i) => expect(Math.abs(value - Number(table[i]))).toBeLessThan(recipe.includes('bits=8') ? 0.005 : 0.14))
  })

  it('tied to the output layer are stored once', async () => {
    const width = 64
    const source = model({
      inputs: [valueInfo('ids', 'int64', ['n'])],
      outputs: [valueInfo('y', 'float32', ['n', ROWS])],
      nodes: [node('Gather', ['table', 'ids'], ['h']), node('Gemm', ['h', 'table'], ['y'], { attributes: { transB: 1 } })],
      initializers: [weights('table', [ROWS, width])],
    })
    const { model: variant } = await blocked(source, 'int4(symmetric=false,accuracyLevel=1)')
    expect(tensorsOf(variant).reduce((sum, proto) => sum + bytes(proto), 0)).toBe(ROWS * (width / 2 + 2 * 4 + 1) + 3 * 8)
    expect(await executedOperators(variant)).toEqual({ GatherBlockQuantized: 1, MatMulNBits: 1 })
    const [gather, product] = ['GatherBlockQuantized', 'MatMulNBits'].map((opType) => variant.graph.node.find((one) => one.opType === opType)!)
    const rows = dequantized(variant, gather!, width).values
    expect(dequantized(variant, product!, width).values).toEqual(rows)
    const { y } = await outputs(variant, { ids: int64s([2], [4, 21]) })
    for (const [position, id] of [4, 21].entries()) {
      rows.forEach((row, n) => {
        expect(Number(y!.data[position * ROWS + n])).toBeCloseTo(
          row.reduce((sum, value, k) => sum + value * rows[id]![k]!, 0),
          3,
        )
      })
    }
  })

  it('whose rows are not whole bytes stay float', async () => {
    expect((await blocked(lookup(51))).decisions[0]!.reason).toBe('its rows of 51 weights of 4 bits are not whole bytes')
    expect((await blocked(lookup(51), 'int4(bits=8)')).decisions[0]!.action).toBe('done')
  })
})

describe('the pass', () => {
  it('gives reasons, and the same bytes again', async () => {
    const source = network(
      [48],
      ['n', 48],
      [node('MatMul', ['x', 'w'], ['a']), node('MatMul', ['a', 'a'], ['b']), node('Relu', ['b'], ['y'])],
      [weights('w', [48, 48])],
    )
    const [first, second] = [await blocked(source), await blocked(source)]
    expect(encodeModel(first.model)).toEqual(encodeModel(second.model))
    expect(source.graph.node.map(({ opType }) => opType)).toEqual(['MatMul', 'MatMul', 'Relu'])
    expect(first.decisions.map(({ reason }) => reason)).toEqual([
      'weights in 4 bits, to the nearest',
      'its right operand is not constant',
      'Relu has no kernel for weights in blocks',
    ])
    expect((await blocked(source, 'int4(exclude=a)')).decisions[0]!.reason).toBe('excluded by the recipe')
    expect((await blocked(source, 'int4(minWeights=3000)')).decisions[0]!.reason).toContain('2304 weights are fewer than 3000')
  })

  it('refuses a block that is no power of two', async () => {
    const source = network([48], ['n', 48], [node('MatMul', ['x', 'w'], ['y'])], [weights('w', [48, 48])])
    await expect(blocked(source, 'int4(block=48)')).rejects.toMatchObject({ code: 'invalid_recipe' })
  })

  it('stores the matrices of a transformer more than 6 times smaller', async () => {
    const source = buildTransformer({ layers: 2, vocab: 500 })
    const { model: variant, decisions } = await blocked(source)
    const readers = variant.graph.node.filter(({ opType }) => opType === 'MatMulNBits')
    expect(readers.length).toBe(12)
    const after = readers.flatMap(({ input }) => input.slice(1)).reduce((sum, name) => sum + bytes(tensor(variant, name)), 0)
    const multiplied = source.graph.node
      .filter(({ opType }) => opType === 'MatMul')
      .map(({ input }) => source.graph.initializer.find(({ name }) => name === input[1]))
    const before = multiplied.reduce((sum, proto) => sum + (proto === undefined ? 0 : bytes(proto)), 0)
    expect(before / after).toBeGreaterThan(6)
    expect(operators(variant.graph.node)['GatherBlockQuantized']).toBe(2)
    expect(decisions.length).toBe(source.graph.node.length)
  })
})
