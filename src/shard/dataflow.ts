// A model as what a cut sees of it: nodes that have to be placed, the values that pass between them, and what any
// stage can have for itself: stored tensors, and nodes that compute from nothing but these.
import { FlyweightError } from '../errors.js'
import { usedTensors } from '../onnx/graph.js'
import type { GraphProto, ModelProto, NodeProto } from '../onnx/proto.js'

/** A tensor that passes from a node, or from outside, to nodes. */
export interface Value {
  name: string
  /** Index of the node that writes it; undefined for an input of the graph. */
  producer: number | undefined
  /** Indices of the nodes that read it, ascending, each once. */
  consumers: readonly number[]
  /** It is an output of the graph. */
  output: boolean
}

export interface Dataflow {
  /** In the graph's order; nodes that nothing needs are left out. */
  nodes: readonly NodeProto[]
  /** Inputs of the graph that nodes read, then what nodes write and others read, in order. */
  values: readonly Value[]
  /** Names of stored tensors, and the nodes that compute from these alone by what they write. */
  constants: ReadonlyMap<string, NodeProto | undefined>
}

/** Operators that give something else each time: every stage would draw numbers of its own. */
const RANDOM = /^(Random|Bernoulli|Multinomial)/

/** @throws FlyweightError `invalid_model` when a node reads what is written after it */
export function dataflow(model: ModelProto & { graph: GraphProto }): Dataflow {
  const { graph } = model
  const constants = constantsOf(graph)
  const nodes = liveNodes(graph).filter((node) => !node.output.some((name) => constants.has(name)))
  const outputs = new Set(graph.output.map(({ name }) => name))
  const values = new Map<string, Value & { consumers: number[] }>()
  for (const { name } of graph.input) if (!constants.has(name)) values.set(name, { name, producer: undefined, consumers: [], output: outputs.has(name) })
  for (const [index, node] of nodes.entries()) {
    for (const name of usedTensors(node)) {
      if (constants.has(name)) continue
      const value = values.get(name)
      if (value === undefined) throw new FlyweightError('invalid_model', `node "${node.name}" (${node.opType}) reads "${name}", which nothing before it writes`)
      value.consumers.push(index)
    }
    for (const name of node.output) if (name !== '') values.set(name, { name, producer: index, consumers: [], output: outputs.has(name) })
  }
  return { nodes, values: [...values.values()].filter(({ consumers, output }) => consumers.length > 0 || output), constants }
}

/** The constants that `names` need, transitively: which stored tensors, and which nodes. */
export function constantsFor(names: Iterable<string>, { constants }: Pick<Dataflow, 'constants'>): { stored: Set<string>; nodes: Set<NodeProto> } {
  const stored = new Set<string>()
  const nodes = new Set<NodeProto>()
  const waiting = [...names]
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (!constants.has(name) || stored.has(name)) continue
    const node = constants.get(name)
    if (node === undefined) stored.add(name)
    else if (!nodes.has(node)) {
      nodes.add(node)
      waiting.push(...usedTensors(node))
    }
  }
  return { stored, nodes }
}

function constantsOf(graph: GraphProto): Map<string, NodeProto | undefined> {
  const constants = new Map<string, NodeProto | undefined>(graph.initializer.map(({ name }) => [name, undefined]))
  for (const { values } of graph.sparseInitializer) if (values) constants.set(values.name, undefined)
  for (const node of graph.node) {
    if (RANDOM.test(node.opType) || ![...usedTensors(node)].every((name) => constants.has(name))) continue
    for (const name of node.output) if (name !== '') constants.set(name, node)
  }
  return constants
}

function liveNodes(graph: GraphProto): NodeProto[] {
  const live = new Set(graph.output.map(({ name }) => name))
  const kept: NodeProto[] = []
  for (const node of graph.node.toReversed()) {
    if (!node.output.some((name) => live.has(name))) continue
    for (const name of usedTensors(node)) live.add(name)
    kept.push(node)
  }
  return kept.reverse()
}
