// Steps of random graphs that own a subgraph: a branch whose condition the batch decides, and a loop that
// applies the same weights twice. Both read a weight of the graph around them.
import { graph, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import type { GraphProto } from '#flyweight/onnx/proto.js'
import type { Sketch, Value } from './random-graphs.js'

/** If with a product in either branch; the condition looks at the number of rows, which no pass can change. */
export function branchStep(sketch: Sketch, { name, dims }: Value): Value {
  const width = dims.at(-1)!
  const shared = sketch.weights([width, width], { deviation: 1 / Math.sqrt(width) })
  const [shape, rows, condition] = [sketch.name('shape'), sketch.name('rows'), sketch.name('condition')]
  sketch.add('Shape', [name], [shape])
  sketch.add('Gather', [shape, sketch.scalar(0)], [rows], { axis: 0 })
  sketch.add('Greater', [rows, sketch.scalar(1)], [condition])
  const branch = (activation: string): GraphProto => {
    const inner = sketch.inner()
    const product = inner.apply('MatMul', [name, shared], dims)
    const shifted = inner.apply('Add', [product.name, inner.weights([width], { deviation: 0.2 })], dims)
    return asGraph(inner, inner.apply(activation, [shifted.name], dims))
  }
  return sketch.apply('If', [condition], dims, { then_branch: branch('Relu'), else_branch: branch('Tanh') })
}

/** Loop of two rounds over x ← tanh(x · W + x). */
export function loopStep(sketch: Sketch, { name, dims }: Value): Value {
  const width = dims.at(-1)!
  const weight = sketch.weights([width, width], { deviation: 0.5 / Math.sqrt(width) })
  const inner = sketch.inner()
  const [round, going, state, still] = [inner.name('round'), inner.name('going'), inner.name('state'), inner.name('still')]
  const product = inner.apply('MatMul', [state, weight], dims)
  const sum = inner.apply('Add', [product.name, state], dims)
  const next = inner.apply('Tanh', [sum.name], dims)
  inner.nodes.push(node('Identity', [going], [still]))
  const rank = ['n', ...dims]
  const body = graph({
    name: 'body',
    inputs: [valueInfo(round, 'int64', []), valueInfo(going, 'bool', []), valueInfo(state, 'float32', rank)],
    outputs: [valueInfo(still, 'bool', []), valueInfo(next.name, 'float32', rank)],
    nodes: inner.nodes,
    initializers: inner.initializers,
  })
  const always = sketch.name('always')
  sketch.initializers.push(tensorProto(always, 'bool', [], Uint8Array.of(1)))
  return sketch.apply('Loop', [sketch.scalar(2), always, name], dims, { body })
}

function asGraph({ nodes, initializers }: Sketch, output: Value): GraphProto {
  return graph({ name: 'branch', inputs: [], outputs: [valueInfo(output.name, 'float32', ['n', ...output.dims])], nodes, initializers })
}
