// Equal constants of several graphs: where they end up, and that the model means the same.
import { expect, it } from 'vitest'
import { shareConstants } from '#flyweight/compress/shared-constants.js'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { allGraphs } from '#flyweight/onnx/graph.js'
import type { GraphProto } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { largestDifference, noise } from '../onnx/running.js'
import { outputs, weights } from './compressing.js'

const flag = (value: number): Tensor => ({ dtype: 'bool', dims: [], data: Uint8Array.of(value) })
const result = (name: string) => [valueInfo(name, 'float32', ['n', 8])]
/** x · w + x · v, with constants that other branches have too, under the same names or others. */
const leaf = (name: string, w: string, seed: number): GraphProto =>
  graph({
    name,
    inputs: [],
    outputs: result(`${name}_y`),
    nodes: [node('MatMul', ['x', w], [`${name}_a`]), node('MatMul', ['x', 'v'], [`${name}_b`]), node('Add', [`${name}_a`, `${name}_b`], [`${name}_y`])],
    initializers: [weights(w, [8, 8]), weights('v', [8, 8], { seed })],
  })
const choice = (name: string, branches: readonly [GraphProto, GraphProto]) =>
  node('If', ['inner'], [`${name}_y`], { name, attributes: { then_branch: branches[0], else_branch: branches[1] } })
const branch = (name: string, branches: readonly [GraphProto, GraphProto]) =>
  graph({ name, inputs: [], outputs: result(`${name}_z`), nodes: [choice(name, branches), node('Neg', [`${name}_y`], [`${name}_z`])] })

const source = () =>
  model({
    inputs: [valueInfo('x', 'float32', ['n', 8]), valueInfo('outer', 'bool', []), valueInfo('inner', 'bool', [])],
    outputs: result('y'),
    nodes: [
      node('If', ['outer'], ['y'], {
        attributes: { then_branch: branch('p', [leaf('p1', 'w', 3), leaf('p2', 'u', 3)]), else_branch: branch('q', [leaf('q1', 'w', 4), leaf('q2', 'w', 5)]) },
      }),
    ],
  })

it('are stored once, in the nearest graph that all readers see', async () => {
  const shared = source()
  shareConstants(shared)
  const held = [...allGraphs(shared.graph)].map(({ graph: { name, initializer } }) => [name, initializer.length])
  expect(held).toEqual([
    ['graph', 1],
    ['p', 1],
    ['p1', 0],
    ['p2', 0],
    ['q', 0],
    ['q1', 1],
    ['q2', 1],
  ])
  for (const [outer, inner] of [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ] as const) {
    const feeds = { x: noise([3, 8]), outer: flag(outer), inner: flag(inner) }
    expect(largestDifference(await outputs(source(), feeds), await outputs(shared, feeds))).toBe(0)
  }
})

it('of Constant nodes are stored with the others', () => {
  const inside = (name: string) =>
    graph({
      name,
      inputs: [],
      outputs: result(`${name}_y`),
      nodes: [node('Constant', [], [`${name}_w`], { attributes: { value: weights('', [8, 8]) } }), node('MatMul', ['x', `${name}_w`], [`${name}_y`])],
    })
  const shared = model({
    inputs: [valueInfo('x', 'float32', ['n', 8]), valueInfo('inner', 'bool', [])],
    outputs: result('i_y'),
    nodes: [choice('i', [inside('a'), inside('b')])],
  })
  shareConstants(shared)
  expect([...allGraphs(shared.graph)].map(({ graph: { initializer, node: nodes } }) => [initializer.length, nodes.length])).toEqual([
    [1, 1],
    [0, 1],
    [0, 1],
  ])
})

it('that a branch hands out, and small ones, stay where they are', () => {
  const given = (name: string) =>
    graph({
      name,
      inputs: [],
      outputs: result(`${name}_y`),
      nodes: [node('Add', ['x', 'k'], [`${name}_s`])],
      initializers: [weights(`${name}_y`, [8, 8]), tensorProto('k', 'float32', [], [1])],
    })
  const shared = model({
    inputs: [valueInfo('x', 'float32', ['n', 8]), valueInfo('inner', 'bool', [])],
    outputs: result('i_y'),
    nodes: [choice('i', [given('a'), given('b')])],
  })
  shareConstants(shared)
  expect([...allGraphs(shared.graph)].map(({ graph: { initializer } }) => initializer.length)).toEqual([0, 2, 2])
})
