import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { checkLimits, type Limits } from '#flyweight/onnx/limits.js'
import type { GraphProto, NodeProto, TensorProto } from '#flyweight/onnx/proto.js'

const x = valueInfo('x', 'float32', [1])
const y = valueInfo('y', 'float32', [1])
const of = (nodes: NodeProto[], initializers: TensorProto[] = []) => model({ inputs: [x], outputs: [y], nodes, initializers })
const relu = () => node('Relu', ['x'], ['y'])

function nested(depth: number): NodeProto {
  let inner: GraphProto = graph({ inputs: [], outputs: [y], nodes: [relu()] })
  for (let i = 1; i < depth; i++) inner = graph({ inputs: [], outputs: [y], nodes: [wrap(inner)] })
  return wrap(inner)
}
const wrap = (inner: GraphProto) => node('If', ['x'], ['y'], { attributes: { then_branch: inner, else_branch: inner } })

const bad = (change: (tensor: TensorProto) => void) => {
  const tensor = tensorProto('w', 'float32', [2], [1, 2])
  change(tensor)
  return of([relu()], [tensor])
}

describe('checkLimits', () => {
  it('accepts ordinary models, subgraphs and the runtime’s own operators', () => {
    expect(() => checkLimits(of([relu(), node('MatMulNBits', ['x'], ['z'], { domain: 'com.microsoft' }), nested(3)]))).not.toThrow()
  })

  const cases: [string, ReturnType<typeof of>, Partial<Limits>, RegExp][] = [
    ['custom operators, by name', of([node('Evil', ['x'], ['y'], { name: 'n1', domain: 'my.ops' })]), {}, /node "n1" \(Evil\) is from the domain "my\.ops"/],
    ['custom operators in a subgraph', of([wrap(graph({ inputs: [], outputs: [y], nodes: [node('E', [], ['y'], { domain: 'd' })] }))]), {}, /custom operators/],
    ['too many nodes, counted over subgraphs', of([nested(2)]), { nodes: 6 }, /more than 6 nodes/],
    ['deep nesting', of([nested(5)]), { subgraphDepth: 4 }, /nested more than 4 deep/],
    [
      'too many tensors',
      of(
        [relu()],
        ['a', 'b', 'c'].map((name) => tensorProto(name, 'int8', [], [1])),
      ),
      { tensors: 2 },
      /2/,
    ],
    ['too many attributes', of([node('Relu', ['x'], ['y'], { attributes: { a: 1, b: 2, c: 3 } })]), { attributesPerNode: 2 }, /has 3 attributes/],
    ['long lists', of([node('Relu', ['x'], ['y'], { attributes: { a: [1, 2, 3] } })]), { listLength: 2 }, /list longer than 2/],
    ['long names', of([node('Relu', ['x'], ['y'.repeat(20)])]), { nameLength: 10 }, /longer than 10/],
    ['high ranks', bad((w) => (w.dims = [1n, 1n, 2n])), { tensorRank: 2 }, /has 3 dimensions/],
    ['negative dims', bad((w) => (w.dims = [-2n])), {}, /negative dimension in \[-2\]/],
    ['dims whose product overflows', bad((w) => (w.dims = [2n ** 40n, 2n ** 40n])), {}, /more elements than can be held/],
    ['dims that do not fit the bytes', bad((w) => (w.dims = [3n])), {}, /has 8 bytes of data, its dims \[3\] need 12/],
    ['a node without operator', of([node('', ['x'], ['y'])]), {}, /names no operator/],
  ]
  it.each(cases)('refuses %s', (_, subject, limits, reason) => {
    expect(() => checkLimits(subject, limits)).toThrow(reason)
    expect(() => checkLimits(subject, limits)).toThrow(FlyweightError)
  })
})
