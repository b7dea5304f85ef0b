// An index over one GraphProto: who produces a tensor, who consumes it, which are constants.
// It is a snapshot: after adding or removing nodes make a new one (or use rewrite.ts, which does).
import type { Tensor } from '../tensor/tensor.js'
import { attribute, subgraphs } from './attributes.js'
import { tensorValues } from './builder.js'
import type { GraphProto, ModelProto, NodeProto, TensorProto } from './proto.js'

export class GraphIndex {
  readonly graph: GraphProto
  readonly #producers = new Map<string, NodeProto>()
  readonly #consumers = new Map<string, NodeProto[]>()
  readonly #initializers: Map<string, TensorProto>
  readonly #outputs: Set<string>
  readonly #inputs: Set<string>
  readonly #outer: GraphIndex | undefined

  /** `outer` is the index of the graph around a subgraph, whose constants the subgraph can read. */
  constructor(graph: GraphProto, outer?: GraphIndex) {
    this.graph = graph
    this.#outer = outer
    this.#inputs = new Set(graph.input.map((input) => input.name))
    this.#initializers = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
    this.#outputs = new Set(graph.output.map((output) => output.name))
    for (const node of graph.node) {
      for (const output of node.output) if (output !== '') this.#producers.set(output, node)
      for (const input of usedTensors(node)) {
        const consumers = this.#consumers.get(input)
        if (consumers) consumers.push(node)
        else this.#consumers.set(input, [node])
      }
    }
  }

  /** The node that writes `tensor`; undefined for inputs, initializers and outer-scope names. */
  producer(tensor: string): NodeProto | undefined {
    return this.#producers.get(tensor)
  }

  /** The nodes that read `tensor`, each once, including nodes whose subgraphs capture it. */
  consumers(tensor: string): readonly NodeProto[] {
    return this.#consumers.get(tensor) ?? []
  }

  isOutput(tensor: string): boolean {
    return this.#outputs.has(tensor)
  }

  initializer(tensor: string): TensorProto | undefined {
    return this.#initializers.get(tensor)
  }

  /** The stored proto of a constant tensor: an initializer or the value of a `Constant` node. */
  constantProto(tensor: string): TensorProto | undefined {
    const initializer = this.#initializers.get(tensor)
    if (initializer) return initializer
    const producer = this.#producers.get(tensor)
    if (producer) return producer.opType === 'Constant' ? attribute(producer, 'value')?.t : undefined
    return this.#inputs.has(tensor) ? undefined : this.#outer?.constantProto(tensor)
  }

  /** The values of a constant tensor, or undefined if it is computed. */
  constant(tensor: string): Tensor | undefined {
    const proto = this.constantProto(tensor)
    return proto && tensorValues(proto)
  }
}

/** Names a node reads: its inputs, and what its subgraphs capture from the outer scope. Each name once. */
export function usedTensors(node: NodeProto): Set<string> {
  const used = new Set(node.input.filter((name) => name !== ''))
  for (const graph of subgraphs(node)) for (const name of capturedTensors(graph)) used.add(name)
  return used
}

/** Names a subgraph reads from its outer scope. */
export function capturedTensors(graph: GraphProto): Set<string> {
  const local = new Set([...graph.input.map((input) => input.name), ...graph.initializer.map((tensor) => tensor.name)])
  const captured = new Set<string>()
  for (const node of graph.node) {
    for (const name of usedTensors(node)) if (!local.has(name)) captured.add(name)
    for (const output of node.output) local.add(output)
  }
  for (const output of graph.output) if (!local.has(output.name)) captured.add(output.name)
  return captured
}

/** Every graph of a model, outermost first, with the chain of nodes that leads to it. */
export function* allGraphs(graph: GraphProto, path: readonly string[] = []): Generator<{ graph: GraphProto; path: readonly string[] }> {
  yield { graph, path }
  for (const node of graph.node) {
    for (const inner of subgraphs(node)) yield* allGraphs(inner, [...path, node.name || node.opType])
  }
}

/** Every tensor stored in a model: initializers, attribute values and sparse parts, of all graphs and local functions. */
export function* allTensors(model: ModelProto): Generator<TensorProto> {
  const training = model.trainingInfo.flatMap(({ initialization, algorithm }) => [initialization, algorithm])
  for (const root of [model.graph, ...training]) {
    if (!root) continue
    for (const { graph } of allGraphs(root)) yield* graphTensors(graph)
  }
  for (const definition of model.functions) {
    for (const node of definition.node) {
      yield* nodeTensors(node)
      for (const inner of subgraphs(node)) for (const { graph } of allGraphs(inner)) yield* graphTensors(graph)
    }
  }
}

function* graphTensors(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer
  for (const sparse of graph.sparseInitializer) {
    if (sparse.values) yield sparse.values
    if (sparse.indices) yield sparse.indices
  }
  for (const node of graph.node) yield* nodeTensors(node)
}

function* nodeTensors(node: NodeProto): Generator<TensorProto> {
  for (const { t, tensors, sparseTensor, sparseTensors } of node.attribute) {
    if (t) yield t
    yield* tensors
    for (const sparse of sparseTensor ? [sparseTensor, ...sparseTensors] : sparseTensors) {
      if (sparse.values) yield sparse.values
      if (sparse.indices) yield sparse.indices
    }
  }
}
