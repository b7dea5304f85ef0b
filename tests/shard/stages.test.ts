// Cutting small graphs made for it: what each stage has, skipping and captured values, constants, and what is refused.
import { describe, expect, it } from 'vitest'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import type { NodeProto, TensorProto } from '#flyweight/onnx/proto.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import type { Stage } from '#flyweight/shard/stages.js'
import { floats, largestDifference, noise } from '../onnx/running.js'
import { cut, runStages, runWhole, type Feeds, type Model } from './stages.js'

const weight = (name: string) => tensorProto(name, 'float32', [4], [1, 2, 3, 4])
const feeds: Feeds = { x: noise([1, 4]) }
const feedSets = [feeds, { x: noise([3, 4]) }]

function network(nodes: NodeProto[], { initializers = [], outputs = ['y'] }: { initializers?: TensorProto[]; outputs?: string[] } = {}): Model {
  return model({ inputs: [valueInfo('x', 'float32', ['n', 4])], outputs: outputs.map((name) => valueInfo(name, 'float32', ['n', 4])), nodes, initializers })
}

const names = (stages: readonly Stage[]) => stages.map(({ inputs, outputs }) => [inputs, outputs])
const initializersOf = (stages: readonly Stage[]) => stages.map((stage) => stage.model.graph.initializer.map(({ name }) => name))
const typesOf = ({ model: { graph: whole } }: Stage) =>
  [...whole.input, ...whole.output].map(({ name, type }) => {
    const shape = type?.value.case === 'tensorType' ? type.value.value.shape?.dim.map(({ value }) => value.value ?? null) : undefined
    return [name, shape]
  })

async function expectEqual(whole: Model, stages: readonly Stage[]) {
  const outputs = whole.graph.output.map(({ name }) => name)
  const [expected, found] = [await runWhole(whole, feedSets), await runStages(stages, outputs, feedSets)]
  for (const [index, result] of found.entries()) expect(largestDifference(result, expected[index] as Feeds)).toBe(0)
}

describe('stages', () => {
  it('read inputs and what earlier stages wrote, and hand on what later ones read', async () => {
    const whole = network([node('Relu', ['x'], ['a']), node('Neg', ['a'], ['b']), node('Add', ['a', 'b'], ['c']), node('Mul', ['c', 'x'], ['y'])])
    const stages = await cut(whole, [0, 1, 2, 3], feedSets)
    expect(names(stages)).toEqual([
      [['x'], ['a']],
      [['a'], ['b']],
      [['a', 'b'], ['c']],
      [['x', 'c'], ['y']],
    ])
    await expectEqual(whole, stages)
  })

  it('need not be in the order of nodes', async () => {
    const whole = network([node('Relu', ['x'], ['a']), node('Neg', ['x'], ['b']), node('Abs', ['a'], ['c']), node('Add', ['c', 'b'], ['y'])])
    const stages = await cut(whole, [1, 0, 1, 1], feedSets)
    expect(names(stages)).toEqual([
      [['x'], ['b']],
      [['x', 'b'], ['y']],
    ])
    await expectEqual(whole, stages)
  })

  it('declare sizes that are certain, and leave open those that were merely the same', async () => {
    // The second size of "a" is 4 whatever comes; that of "b" depends on the values of x.
    const nodes = [
      node('Relu', ['x'], ['a']),
      node('NonZero', ['x'], ['at']),
      node('Cast', ['at'], ['b'], { attributes: { to: 1 } }),
      node('Abs', ['b'], ['y']),
    ]
    const whole = network([...nodes, node('Abs', ['a'], ['z'])], { outputs: ['z'] })
    whole.graph.output.push(valueInfo('y', 'float32', [2, 'count']))
    const [first] = await cut(whole, [0, 0, 0, 1, 1], [{ x: floats([1, 4], [1, 2, 3, 4]) }])
    expect(typesOf(first as Stage)).toEqual([
      ['x', ['n', 4n]],
      ['a', ['n', 4n]],
      ['b', [2n, null]],
    ])
  })

  it('have the name of the batch where the runtime cannot tell that it is one', async () => {
    const whole = network([
      node('Shape', ['x'], ['dims']),
      node('Relu', ['x'], ['a']),
      node('Abs', ['dims'], ['same']),
      node('Reshape', ['a', 'same'], ['b']),
      node('Neg', ['b'], ['y']),
    ])
    const [first] = await cut(whole, [0, 0, 0, 0, 1], feedSets)
    expect(typesOf(first as Stage).at(-1)).toEqual(['b', ['n', null]])
  })

  it('each have the constants they read, computed ones too', async () => {
    const stored = [weight('w'), weight('v'), tensorProto('unused', 'float32', [4], [0, 0, 0, 0])]
    const constant = node('Constant', [], ['k'], { attributes: { value: weight('') } })
    const nodes = [
      constant,
      node('Neg', ['w'], ['minus']),
      node('Add', ['x', 'minus'], ['a']),
      node('Mul', ['a', 'minus'], ['b']),
      node('Add', ['b', 'k'], ['c']),
    ]
    const whole = network([...nodes, node('Add', ['c', 'v'], ['y'])], { initializers: stored })
    expect(dataflow(whole).nodes).toHaveLength(4)
    const stages = await cut(whole, [0, 1, 2, 2], feedSets)
    expect(names(stages).map(([inputs]) => inputs)).toEqual([['x'], ['a'], ['b']])
    expect(initializersOf(stages)).toEqual([['w'], ['w'], ['v']])
    // The bytes are those of the whole, not copies.
    expect(stages[0]?.model.graph.initializer[0]).toBe(whole.graph.initializer[0])
    await expectEqual(whole, stages)
  })

  it('leave out what nothing needs', async () => {
    const whole = network([node('Relu', ['x'], ['a']), node('Abs', ['x'], ['dead']), node('Neg', ['a'], ['y'])])
    expect(dataflow(whole).nodes.map(({ opType }) => opType)).toEqual(['Relu', 'Neg'])
  })

  it('hand on what only subgraphs read', async () => {
    const branch = (name: string, nodes: NodeProto[]) => graph({ name, inputs: [], outputs: [valueInfo(`${name}-out`, 'float32', ['n', 4])], nodes })
    const nested = node('If', ['flag'], ['inner'], {
      attributes: { then_branch: branch('p', [node('Mul', ['a', 'w'], ['p-out'])]), else_branch: branch('q', [node('Neg', ['a'], ['q-out'])]) },
    })
    const choice = node('If', ['flag'], ['y'], {
      attributes: { then_branch: branch('t', [nested, node('Add', ['inner', 'b'], ['t-out'])]), else_branch: branch('e', [node('Abs', ['b'], ['e-out'])]) },
    })
    const nodes = [
      node('Relu', ['x'], ['a']),
      node('ReduceSum', ['a'], ['sum'], { attributes: { keepdims: 0 } }),
      node('Cast', ['sum'], ['flag'], { attributes: { to: 9 } }),
    ]
    const whole = network([...nodes, node('Neg', ['a'], ['b']), choice], { initializers: [weight('w')] })
    const stages = await cut(whole, [0, 0, 0, 1, 2], feedSets)
    expect(names(stages)).toEqual([
      [['x'], ['a', 'flag']],
      [['a'], ['b']],
      [['a', 'flag', 'b'], ['y']],
    ])
    expect(initializersOf(stages)).toEqual([[], [], ['w']])
    await expectEqual(whole, stages)
  })

  it('give outputs of the whole that are read on, and constants', async () => {
    const nodes = [node('Relu', ['x'], ['a']), node('Neg', ['a'], ['y']), node('Constant', [], ['k'], { attributes: { value: weight('') } })]
    const whole = network(nodes, { outputs: ['a', 'y', 'k'] })
    const stages = await cut(whole, [0, 1], feedSets)
    expect(names(stages)).toEqual([
      [['x'], ['a']],
      [['a'], ['y', 'k']],
    ])
    const [result] = await runStages(stages, ['a', 'y', 'k'], [feeds])
    expect(Array.from(result?.['k']?.data as Float32Array)).toEqual([1, 2, 3, 4])
  })

  it('are refused where a value would go backward', async () => {
    const whole = network([node('Relu', ['x'], ['a'], { name: 'first' }), node('Neg', ['a'], ['y'], { name: '' })])
    await expect(cut(whole, [1, 0], feedSets)).rejects.toMatchObject({
      code: 'invalid_plan',
      message: '"a" would go backward: node "first" (Relu) in stage 1 writes it, node "y" (Neg) in stage 0 reads it',
    })
  })

  it('are refused where one is empty, or a sequence would cross', async () => {
    const whole = network([node('SequenceConstruct', ['x'], ['s']), node('ConcatFromSequence', ['s'], ['y'], { attributes: { axis: 0 } })])
    await expect(cut(whole, [0, 1], feedSets)).rejects.toMatchObject({ code: 'invalid_plan', message: expect.stringContaining('"s" is no tensor') })
    await expect(cut(whole, [0, 2], feedSets)).rejects.toMatchObject({ code: 'invalid_plan', message: 'stage 1 has no nodes' })
  })

  it('draw random numbers once', () => {
    const random = node('RandomNormal', [], ['noise'], { attributes: { shape: [1, 4] } })
    expect(dataflow(network([random, node('Add', ['x', 'noise'], ['a']), node('Mul', ['a', 'noise'], ['y'])])).nodes).toHaveLength(3)
  })
})
