// Stages by hand: what cuts and patterns mean, and that each mistake is named.
import { describe, expect, it } from 'vitest'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import { stagesByCuts, stagesByPatterns } from '#flyweight/shard/manual.js'

// x → a → b → d → y, and a → c → d: two branches that meet.
const flow = dataflow(
  model({
    inputs: [valueInfo('x', 'float32', ['n', 4])],
    outputs: [valueInfo('y', 'float32', ['n', 4])],
    nodes: [
      node('Relu', ['x'], ['a'], { name: 'block.0/relu' }),
      node('Neg', ['a'], ['b'], { name: 'block.1/neg' }),
      node('Abs', ['a'], ['c'], { name: 'block.1/abs' }),
      node('Add', ['b', 'c'], ['d'], { name: '' }),
      node('Relu', ['d'], ['y'], { name: 'head' }),
    ],
  }),
)
const refusal = (message: string) => expect.objectContaining({ code: 'invalid_plan', message }) as Error

describe('cuts', () => {
  it('take with them what their tensor needs, and nothing else', () => {
    expect(stagesByCuts(flow, ['d'])).toEqual([0, 0, 0, 0, 1])
    expect(stagesByCuts(flow, ['b'])).toEqual([0, 0, 1, 1, 1])
    expect(stagesByCuts(flow, ['c', 'd'])).toEqual([0, 1, 0, 1, 2])
  })

  it('name what is unknown, backward, or leaves nothing', () => {
    expect(() => stagesByCuts(flow, ['z'])).toThrow(
      refusal('cut "z": got a name that no node to place writes, expected one of its outputs, such as "a", "b", "c"'),
    )
    expect(() => stagesByCuts(flow, ['x'])).toThrow(
      refusal('cut "x": got a name that no node to place writes, expected one of its outputs, such as "a", "b", "c"'),
    )
    expect(() => stagesByCuts(flow, ['d', 'a'])).toThrow(refusal('cut "a" comes before cut "d" or with it, expected cuts in the order of the graph'))
    expect(() => stagesByCuts(flow, ['a', 'y'])).toThrow(refusal('cut "y" leaves nothing for the stage after it'))
  })
})

describe('patterns', () => {
  it('match names, of the tensor where a node has none; the others follow what they read', () => {
    expect(stagesByPatterns(flow, [['block.*'], ['d', 'head']])).toEqual([0, 0, 0, 1, 1])
    expect(stagesByPatterns(flow, [['block.0*'], ['*abs', '*/neg'], ['head']])).toEqual([0, 1, 1, 1, 2])
  })

  it('name what matches nothing, is in two stages, empty, or backward', () => {
    expect(() => stagesByPatterns(flow, [['block.2*'], ['head']])).toThrow(
      refusal('stage 0: pattern "block.2*" matches no node to place, such as "block.0/relu", "block.1/neg", "block.1/abs"'),
    )
    // A dot is a dot.
    expect(() => stagesByPatterns(flow, [['block?0*'], ['head']])).toThrow('matches no node')
    expect(() => stagesByPatterns(flow, [['block.1*'], ['*neg']])).toThrow(refusal('node "block.1/neg" (Neg) is in stage 0 and, by "*neg", in stage 1'))
    expect(() => stagesByPatterns(flow, [[], [], ['head']])).toThrow(refusal('stage 1 has no nodes'))
    expect(() => stagesByPatterns(flow, [['head'], ['block.0*']])).toThrow('would go backward')
  })
})
