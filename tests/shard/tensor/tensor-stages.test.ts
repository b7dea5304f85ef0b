// Random feed-forward and attention blocks in parts: all parts together give what the whole gives, on shapes that were
// not observed too, and have each weight once.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { node, tensorProto, valueInfo, model as makeModel } from '#flyweight/onnx/builder.js'
import { int64s, largestDifference, noise } from '../../onnx/running.js'
import { runStages, runWhole, type Feeds, type Model } from '../stages.js'
import { blockShapes, network, type BlockShape } from './networks.js'
import { cutBytes, inParts, storedBytes } from './parts.js'

const HIDDEN = 6
const feedSets = [1, 2, 5].map((rows): Feeds => ({ x: noise([rows, 3, HIDDEN], rows) }))

async function expectEqual(model: Model, sets: readonly Feeds[], speeds: readonly number[]) {
  const found = await inParts(model, sets.slice(0, 2), speeds)
  const outputs = model.graph.output.map(({ name }) => name)
  const [expected, results] = [await runWhole(model, sets), await runStages(found.stages, outputs, sets)]
  for (const { rank, inputs } of found.stages) {
    const same = found.stages.filter((other) => other.rank >= rank).flatMap((other) => other.outputs)
    expect(inputs.filter((name) => same.includes(name))).toEqual([])
  }
  for (const [index, result] of results.entries()) expect(largestDifference(result, expected[index] as Feeds)).toBeLessThan(1e-5)
  return found
}

const attention: BlockShape = { kind: 'attention', heads: 6, depth: 2, projection: 'three', bias: true, norm: 'before', residual: true }
const feedForward: BlockShape = { kind: 'feed-forward', inner: 32, layer: 'MatMul', activation: 'Gelu', bias: true, norm: 'before', residual: true }

describe('models in parts', () => {
  it('give what the whole gives, with each weight that is cut once', async () => {
    const devices = fc.integer({ min: 2, max: 4 })
    await fc.assert(
      fc.asyncProperty(fc.array(blockShapes, { minLength: 1, maxLength: 3 }), devices, async (shapes, count) => {
        const model = network(HIDDEN, shapes)
        const { blocks, stages } = await expectEqual(model, feedSets, new Array<number>(count).fill(1))
        expect(blocks.filter(({ join }) => join.kind === 'sum').length).toBeGreaterThan(0)
        const weights = [...new Set(blocks.flatMap((block) => block.weights))]
        expect(cutBytes(stages)).toBe(storedBytes(model, weights))
      }),
      { numRuns: 30, seed: 5 },
    )
  })

  it('pair all projections of attention with the one after it, by heads', async () => {
    for (const projection of ['three', 'Split', 'Gather', 'merged batch'] as const) {
      const { blocks } = await inParts(network(HIDDEN, [{ ...attention, projection }]), feedSets.slice(0, 2), [1, 1])
      expect(blocks.map(({ units, join, weights }) => [units, join.kind, weights.length])).toEqual([
        [6, 'sum', projection === 'three' || projection === 'merged batch' ? 7 : 3],
      ])
    }
  })

  it('hand on one sum a block, biases and what goes around added by the first part', async () => {
    const { stages } = await inParts(network(HIDDEN, [attention, feedForward]), feedSets.slice(0, 2), [1, 1])
    expect(stages.map(({ rank, part, inputs, outputs }) => [rank, part, inputs.length, outputs.length])).toEqual([
      [0, 0, 1, 1],
      [0, 1, 1, 1],
      [1, 0, 2, 1],
      [1, 1, 2, 1],
      [2, 0, 2, 1],
    ])
    const adds = stages.map(({ model }) => model.graph.node.filter(({ opType }) => opType === 'Add').length)
    // Three biases of projections and two additions after the sum; a sum, and the same for a feed-forward block.
    expect(adds).toEqual([5, 3, 4, 2, 1])
  })

  it('give faster devices more', async () => {
    const { stages } = await expectEqual(network(HIDDEN, [attention]), feedSets, [2, 1])
    const [fast, slow] = stages.slice(0, 2).map(({ model }) => storedBytes(model))
    expect(fast).toBeGreaterThan((slow as number) * 1.5)
  })

  it('have no more parts than heads', async () => {
    const { stages } = await expectEqual(network(HIDDEN, [{ ...attention, heads: 3 }]), feedSets, [1, 1, 1, 1])
    expect(stages.map(({ rank, part }) => [rank, part])).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
      [1, 0],
    ])
  })

  it('add up blocks side by side where both are there', async () => {
    const weight = (name: string, dims: number[]) => tensorProto(name, 'float32', dims, noise(dims, name.charCodeAt(1)).data as Float32Array<ArrayBuffer>)
    const model = makeModel({
      inputs: [valueInfo('x', 'float32', ['n', 4])],
      outputs: [valueInfo('y', 'float32', ['n', 4])],
      nodes: [
        ...['a', 'b'].flatMap((name) => [
          node('MatMul', ['x', `${name}0`], [`${name}.first`]),
          node('Relu', [`${name}.first`], [`${name}.active`]),
          node('MatMul', [`${name}.active`, `${name}1`], [`${name}.sum`]),
        ]),
        node('Add', ['a.sum', 'b.sum'], ['y']),
      ],
      initializers: ['a', 'b'].flatMap((name) => [weight(`${name}0`, [4, 8]), weight(`${name}1`, [8, 4])]),
    })
    const { stages } = await expectEqual(
      model,
      [1, 2, 5].map((rows) => ({ x: noise([rows, 4], rows) })),
      [1, 1],
    )
    expect(stages.map(({ rank, outputs }) => [rank, outputs.length])).toEqual([
      [0, 2],
      [0, 2],
      [1, 1],
    ])
  })

  it('put single layers together by columns', async () => {
    const table = tensorProto('table', 'float32', [10, 8], noise([10, 8]).data as Float32Array<ArrayBuffer>)
    const model = makeModel({
      inputs: [valueInfo('ids', 'int64', ['n', 3])],
      outputs: [valueInfo('y', 'float32', ['n', 3, 8])],
      nodes: [node('Gather', ['table', 'ids'], ['embedded']), node('LayerNormalization', ['embedded', 'scale'], ['y'], { attributes: { axis: -1 } })],
      initializers: [table, tensorProto('scale', 'float32', [8], [1, 2, 3, 4, 5, 6, 7, 8])],
    })
    const ids = (rows: number) => ({
      ids: int64s(
        [rows, 3],
        Array.from({ length: 3 * rows }, (_, index) => index % 10),
      ),
    })
    const { stages } = await expectEqual(model, [ids(1), ids(2), ids(4)], [1, 1, 1])
    expect(stages.map(({ inputs }) => inputs.length)).toEqual([1, 1, 1, 3])
    expect(cutBytes(stages)).toBe(320)
  })

  it('leave whole what is quantized, and what others read inside of a block', async () => {
    const pair = (nodes: Parameters<typeof makeModel>[0]['nodes'], outputs = ['y']): Model =>
      makeModel({
        inputs: [valueInfo('x', 'float32', ['n', 4])],
        outputs: outputs.map((name) => valueInfo(name, 'float32', ['n', name === 'h' ? 8 : 4])),
        nodes,
        initializers: [
          tensorProto('w', 'float32', [4, 8], noise([4, 8]).data as Float32Array<ArrayBuffer>),
          tensorProto('v', 'float32', [8, 4], noise([8, 4]).data as Float32Array<ArrayBuffer>),
          tensorProto('q', 'int8', [4, 8], new Array<number>(32).fill(3)),
          tensorProto('s', 'float32', [], [0.1]),
        ],
      })
    const [first, second] = [node('MatMul', ['x', 'w'], ['h']), node('MatMul', ['h', 'v'], ['y'])]
    const sets = [1, 2].map((rows): Feeds => ({ x: noise([rows, 4]) }))
    const kinds = async (model: Model) => (await inParts(model, sets, [1, 1])).blocks.map(({ join, weights }) => [join.kind, weights])
    expect(await kinds(pair([first, second]))).toEqual([['sum', ['v', 'w']]])
    expect(await kinds(pair([first, second], ['y', 'h']))).toEqual([
      ['concat', ['w']],
      ['concat', ['v']],
    ])
    expect(await kinds(pair([node('DequantizeLinear', ['q', 's'], ['d']), node('MatMul', ['x', 'd'], ['h']), second]))).toEqual([['concat', ['v']]])
  })
})
