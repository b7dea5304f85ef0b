// What is there twice, once: equal initializers, and nodes that compute the same from the same. Works on each
// graph of a model by itself; a subgraph also reads what is merged around it.
import { createHash } from 'node:crypto'
import { subgraphs } from '../../onnx/attributes.js'
import { allGraphs } from '../../onnx/graph.js'
import { create, encodeModel, GraphProtoSchema, ModelProtoSchema, shallowCopy, type GraphProto, type NodeProto } from '../../onnx/proto.js'
import type { Model } from '../passes/pass.js'

/** Two of them with the same inputs need not give the same. */
const DRAWS = /^(Random|Bernoulli|Multinomial|Dropout)/
const COMMUTES = new Set(['Add', 'Mul', 'And', 'Or', 'Xor', 'Equal'])

/** Merges in place until nothing is left to merge; returns how many tensors and nodes went. */
export function mergeDuplicates(model: Model): { initializers: number; nodes: number } {
  const merged = { initializers: 0, nodes: 0 }
  for (const { graph } of allGraphs(model.graph)) {
    merged.initializers += mergeInitializers(graph)
    merged.nodes += mergeNodes(graph)
  }
  return merged
}

function mergeInitializers(graph: GraphProto): number {
  const fixed = new Set([...graph.input, ...graph.output].map(({ name }) => name))
  const first = new Map<string, string>()
  const instead = new Map<string, string>()
  for (const tensor of graph.initializer) {
    if (fixed.has(tensor.name)) continue
    const anonymous = shallowCopy(tensor)
    anonymous.name = ''
    const key = digest({ initializer: [anonymous] })
    const known = first.get(key)
    if (known === undefined) first.set(key, tensor.name)
    else instead.set(tensor.name, known)
  }
  graph.initializer = graph.initializer.filter(({ name }) => !instead.has(name))
  readInstead(graph, instead)
  return instead.size
}

function mergeNodes(graph: GraphProto): number {
  const outputs = new Set(graph.output.map(({ name }) => name))
  const first = new Map<string, NodeProto>()
  let merged = 0
  for (const node of [...graph.node]) {
    if (DRAWS.test(node.opType) || subgraphs(node).length > 0 || node.output.some((name) => outputs.has(name))) continue
    const key = meaningOf(node)
    const known = first.get(key)
    if (known === undefined) {
      first.set(key, node)
      continue
    }
    graph.node.splice(graph.node.indexOf(node), 1)
    // At once, so that the readers of equal nodes are seen to be equal in turn.
    readInstead(graph, new Map(node.output.map((name, position) => [name, known.output[position]!])))
    merged++
  }
  return merged
}

/** Equal for nodes that compute the same outputs. */
function meaningOf(node: NodeProto): string {
  const anonymous = shallowCopy(node)
  anonymous.name = ''
  anonymous.docString = ''
  anonymous.metadataProps = []
  anonymous.input = COMMUTES.has(node.opType) ? node.input.toSorted() : node.input
  anonymous.output = node.output.map((name) => (name === '' ? '' : '*'))
  anonymous.attribute = node.attribute.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  return digest({ node: [anonymous] })
}

function digest(part: Partial<Pick<GraphProto, 'initializer' | 'node'>>): string {
  const bytes = encodeModel(create(ModelProtoSchema, { graph: create(GraphProtoSchema, part) }))
  return createHash('sha256').update(bytes).digest('base64')
}

/** Renames what nodes of a graph, and of those inside it, read; and what inner graphs hand out from outside. */
function readInstead(graph: GraphProto, instead: ReadonlyMap<string, string>): void {
  if (instead.size === 0) return
  for (const node of graph.node) {
    if (node.input.some((name) => instead.has(name))) node.input = node.input.map((name) => instead.get(name) ?? name)
    for (const inner of subgraphs(node)) {
      readInstead(inner, instead)
      for (const output of inner.output) output.name = instead.get(output.name) ?? output.name
    }
  }
}
