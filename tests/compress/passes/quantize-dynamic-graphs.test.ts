// Pass int8-dynamic beyond plain products: embeddings, tied weights, LSTM, subgraphs, and a transformer as a whole.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { graph, model, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { allGraphs } from '#flyweight/onnx/graph.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { buildTransformer } from '../../../bench/models/transformer.mjs'
import { int64s, noise } from '../../onnx/running.js'
import { compressed, executedOperators, noiseSamples, operators, outputs, sqnr, weights } from '../compressing.js'

const dynamic = (source: Model, recipe = 'int8-dynamic') => compressed(source, recipe, noiseSamples([1]))
const initializers = ({ graph: root }: Model) => [...allGraphs(root)].flatMap(({ graph: inner }) => inner.initializer)
/** Elements stored as float32. */
const floats = (of: Model) =>
  initializers(of).reduce((sum, { dataType, dims }) => (dataType === 1 ? sum + dims.reduce((n, dim) => n * Number(dim), 1) : sum), 0)
const nodesOf = (of: Model) => [...allGraphs(of.graph)].flatMap(({ graph: inner }) => inner.node)
async function fidelity(source: Model, variant: Model, feeds: Record<string, Tensor>, output = 'y'): Promise<number> {
  return sqnr((await outputs(source, feeds))[output]!, (await outputs(variant, feeds))[output]!)
}

describe('embeddings', () => {
  const [ROWS, WIDTH] = [40, 48]
  const table = tensorProto(
    'table',
    'float32',
    [ROWS, WIDTH],
    (noise([ROWS, WIDTH], 3).data as Float32Array<ArrayBuffer>).map((value, i) => value * (1 + Math.floor(i / WIDTH))),
  )
  const ids = int64s([2, 3], [0, 39, -1, 5, 5, 17])
  const lookup = model({
    inputs: [valueInfo('ids', 'int64', ['n', 'length'])],
    outputs: [valueInfo('y', 'float32', ['n', 'length', WIDTH])],
    nodes: [node('Gather', ['table', 'ids'], ['y'])],
    initializers: [table],
  })

  it('are off by at most half a step of their row', async () => {
    const { model: variant, decisions } = await dynamic(lookup)
    expect(decisions).toMatchObject([{ node: 'y', action: 'done' }])
    expect(floats(variant)).toBe(ROWS)
    const { y } = await outputs(variant, { ids })
    expect(y!.dims).toEqual([2, 3, WIDTH])
    const values = tensorValues(table).data as Float32Array
    Array.from(ids.data, Number).forEach((id, position) => {
      const row = values.subarray((id < 0 ? id + ROWS : id) * WIDTH).slice(0, WIDTH)
      const step = Math.max(...row.map(Math.abs)) / 127
      row.forEach((value, i) => expect(Math.abs(Number(y!.data[position * WIDTH + i]) - value)).toBeLessThanOrEqual(step * 0.5001))
    })
  })

  it.each(['Gemm', 'Transpose', 'Identity'])('tied to an output layer (%s) keep one copy of the weights', async (how) => {
    const flat = node('Reshape', ['embedded', 'shape'], ['h'])
    const head =
      how !== 'Transpose'
        ? [
            node('Identity', ['table'], ['copy']),
            node('Gemm', ['h', how === 'Identity' ? 'copy' : 'table'], ['y'], { attributes: { transB: 1, alpha: { float: 0.5 } } }),
          ]
        : [node('Transpose', ['table'], ['across'], { attributes: { perm: [1, 0] } }), node('MatMul', ['h', 'across'], ['y'])]
    const source = model({
      inputs: [valueInfo('ids', 'int64', ['n'])],
      outputs: [valueInfo('y', 'float32', ['n', ROWS])],
      nodes: [node('Gather', ['table', 'ids'], ['embedded']), flat, ...head],
      initializers: [table, tensorProto('shape', 'int64', [2], [-1, WIDTH])],
    })
    const { model: variant } = await dynamic(source)
    expect(
      initializers(variant)
        .filter(({ dataType }) => dataType === 3)
        .map(({ dims }) => dims.map(Number)),
    ).toEqual([[ROWS, WIDTH]])
    expect(floats(variant)).toBe(2 * ROWS)
    expect(await fidelity(source, variant, { ids: int64s([4], [0, 39, 7, 21]) })).toBeGreaterThan(35)
    const kernels = await executedOperators(variant)
    expect((kernels['DynamicQuantizeMatMul'] ?? 0) + (kernels['MatMulIntegerToFloat'] ?? 0)).toBe(1)
    expect(kernels['Transpose']).toBeUndefined()
  })

  it('stay float where the recipe says so, where they are small, and where they are computed', async () => {
    const reason = async (recipe: string) => (await dynamic(lookup, recipe)).decisions[0]!.reason
    expect(await reason('int8-dynamic(embeddings=false)')).toBe('the recipe leaves embeddings in float')
    expect(await reason('int8-dynamic(minWeights=2000)')).toContain('1920 weights are fewer than 2000')
    expect(await reason('int8-dynamic(exclude=y)')).toBe('excluded by the recipe')
  })
})

describe('LSTM', () => {
  const [INPUT, HIDDEN] = [24, 32]
  const lstm = (direction: string, attributes = {}) => {
    const directions = direction === 'bidirectional' ? 2 : 1
    return model({
      inputs: [valueInfo('x', 'float32', ['length', 'n', INPUT])],
      outputs: [valueInfo('y', 'float32', ['length', directions, 'n', HIDDEN]), valueInfo('last', 'float32', [directions, 'n', HIDDEN])],
      nodes: [node('LSTM', ['x', 'w', 'r', 'b', '', 'h', 'c'], ['y', 'last'], { attributes: { hidden_size: HIDDEN, direction, ...attributes } })],
      initializers: [
        weights('w', [directions, 4 * HIDDEN, INPUT], { size: 0.4 }),
        weights('r', [directions, 4 * HIDDEN, HIDDEN], { size: 0.3, seed: 2 }),
        weights('b', [directions, 8 * HIDDEN], { size: 0.2, seed: 3 }),
        weights('h', [directions, 3, HIDDEN], { size: 0.5, seed: 4 }),
        weights('c', [directions, 3, HIDDEN], { size: 0.5, seed: 5 }),
      ],
    })
  }

  it.each(['forward', 'reverse', 'bidirectional'])('%s runs in int8, close to float', async (direction) => {
    const source = lstm(direction)
    const { model: variant, decisions } = await dynamic(source)
    expect(decisions).toMatchObject([{ node: 'y', opType: 'LSTM', action: 'done' }])
    expect(operators(variant.graph.node)).toEqual({ DynamicQuantizeLSTM: 1 })
    const x = noise([7, 3, INPUT], 9)
    for (const output of ['y', 'last']) expect(await fidelity(source, variant, { x }, output)).toBeGreaterThan(30)
  })

  it('keeps its float form where there is no kernel; so do GRU and RNN', async () => {
    expect((await dynamic(lstm('forward', { layout: 1 }))).decisions[0]!.reason).toContain('no int8 kernel')
    const gru = model({
      inputs: [valueInfo('x', 'float32', ['length', 'n', INPUT])],
      outputs: [valueInfo('y', 'float32', ['length', 1, 'n', HIDDEN])],
      nodes: [node('GRU', ['x', 'w', 'r'], ['y'], { attributes: { hidden_size: HIDDEN } })],
      initializers: [weights('w', [1, 3 * HIDDEN, INPUT]), weights('r', [1, 3 * HIDDEN, HIDDEN])],
    })
    expect((await dynamic(gru)).decisions).toMatchObject([{ action: 'skipped', reason: 'GRU has no dynamic int8 kernel that pays' }])
  })
})

describe('subgraphs', () => {
  const K = 48
  const branch = (name: string, second: string) =>
    graph({
      name,
      inputs: [],
      outputs: [valueInfo('out', 'float32', ['n', K])],
      nodes: [node('MatMul', ['x', 'w'], ['a'], { name: 'first' }), node('MatMul', ['a', second], ['out'], { name: 'second' })],
      initializers: second === 'own' ? [weights('own', [K, K], { seed: 4, size: 0.2 })] : [],
    })
  const conditional = model({
    inputs: [valueInfo('x', 'float32', ['n', K]), valueInfo('flag', 'bool', [])],
    outputs: [valueInfo('y', 'float32', ['n', K])],
    nodes: [
      node('MatMul', ['x', 'w'], ['before']),
      node('If', ['flag'], ['chosen'], { attributes: { then_branch: branch('t', 'own'), else_branch: branch('e', 'w') } }),
      node('Add', ['before', 'chosen'], ['y']),
    ],
    initializers: [weights('w', [K, K], { size: 0.2 })],
  })
  const flag = (value: number): Tensor => ({ dtype: 'bool', dims: [], data: Uint8Array.of(value) })

  it('are quantized with the weights they capture, once, and each node has its decision', async () => {
    const { model: variant, decisions } = await dynamic(conditional)
    expect(decisions.map(({ node: label, action }) => [label, action])).toEqual([
      ['before', 'done'],
      ['chosen', 'skipped'],
      ['chosen/then_branch/first', 'done'],
      ['chosen/then_branch/second', 'done'],
      ['chosen/else_branch/first', 'done'],
      ['chosen/else_branch/second', 'done'],
      ['y', 'skipped'],
    ])
    expect(
      initializers(variant)
        .filter(({ dims }) => dims.length === 2)
        .map(({ dataType }) => dataType),
    ).toEqual([3, 3])
    // x once, outside; the inner product of each branch.
    expect(operators(nodesOf(variant))['DynamicQuantizeLinear']).toBe(3)
    for (const value of [0, 1]) expect(await fidelity(conditional, variant, { x: noise([3, K], 8), flag: flag(value) })).toBeGreaterThan(30)
  })

  it('can be excluded node by node', async () => {
    const { model: variant, decisions } = await dynamic(conditional, 'int8-dynamic(exclude=chosen/then_branch/second)')
    expect(decisions.find(({ node: label }) => label === 'chosen/then_branch/second')).toMatchObject({ reason: 'excluded by the recipe' })
    expect(operators(nodesOf(variant))['MatMulInteger']).toBe(4)
  })

  it('of a Loop are quantized too', async () => {
    const body = graph({
      name: 'body',
      inputs: [valueInfo('i', 'int64', []), valueInfo('go', 'bool', []), valueInfo('state', 'float32', ['n', K])],
      outputs: [valueInfo('goes', 'bool', []), valueInfo('next', 'float32', ['n', K])],
      nodes: [node('Identity', ['go'], ['goes']), node('MatMul', ['state', 'w'], ['product']), node('Tanh', ['product'], ['next'])],
    })
    const source = model({
      inputs: [valueInfo('x', 'float32', ['n', K])],
      outputs: [valueInfo('y', 'float32', ['n', K])],
      nodes: [node('Loop', ['count', '', 'x'], ['y'], { attributes: { body } })],
      initializers: [weights('w', [K, K], { size: 0.2 }), tensorProto('count', 'int64', [], [3])],
    })
    const { model: variant, decisions } = await dynamic(source)
    expect(decisions.map(({ node: label, action }) => `${label} ${action}`)).toEqual([
      'y skipped',
      'y/body/goes skipped',
      'y/body/product done',
      'y/body/next skipped',
    ])
    expect(await fidelity(source, variant, { x: noise([2, K], 8) })).toBeGreaterThan(30)
  })

  it('of Silero VAD hold the LSTM, which runs in int8', async () => {
    const package_ = createRequire(import.meta.url).resolve('@ricky0123/vad-web/package.json')
    const source = await loadModel(join(dirname(package_), 'dist', 'silero_vad_v5.onnx'))
    const { model: variant, decisions } = await dynamic(source)
    expect(decisions.filter(({ opType, action }) => opType === 'LSTM' && action === 'done').length).toBe(4)
    const labels = decisions.map(({ node: label }) => label)
    expect(new Set(labels).size).toBe(labels.length)
    const feeds = {
      input: { dtype: 'float32' as const, dims: [1, 512], data: Float32Array.from({ length: 512 }, (_, i) => 0.3 * Math.sin(i / 3)) },
      state: noise([2, 1, 128], 6),
      sr: int64s([], [16000]),
    }
    expect(await fidelity(source, variant, feeds, 'stateN')).toBeGreaterThan(30)
  })
})

describe('a transformer of the size of MiniLM', () => {
  it('is more than 3.5 times smaller, and close to float', async () => {
    const source = buildTransformer({ vocab: 4000 })
    const { model: variant, decisions } = await dynamic(source)
    expect(decisions.length).toBe(source.graph.node.length)
    expect(encodeModel(source).length / encodeModel(variant).length).toBeGreaterThan(3.5)
    const ids = Array.from({ length: 3 * 16 }, (_, i) => (i * 7919) % 4000)
    const feeds = {
      input_ids: int64s([3, 16], ids),
      attention_mask: int64s(
        [3, 16],
        ids.map((_, i) => Number(i % 16 < 14)),
      ),
    }
    expect(await fidelity(source, variant, feeds, 'last_hidden_state')).toBeGreaterThan(25)
    const kernels = await executedOperators(variant)
    expect((kernels['DynamicQuantizeMatMul'] ?? 0) + (kernels['MatMulIntegerToFloat'] ?? 0)).toBe(36)
  })
})
