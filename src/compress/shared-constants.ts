// Where the constants of a model with subgraphs are: none in Constant nodes, and equal ones once, in the nearest
// graph that all their readers see. The runtime's folding leaves a copy in every branch of an If. Merging within a graph is
// simplify/merge.ts's.
import { createHash } from 'node:crypto'
import { attribute, subgraphs } from '../onnx/attributes.js'
import { allGraphs } from '../onnx/graph.js'
import { tensorNames } from '../onnx/names.js'
import { shallowCopy, type GraphProto, type TensorProto } from '../onnx/proto.js'
import type { Model } from './passes/pass.js'

/** Smaller ones are not worth a look: shapes, axes, numbers. */
const LEAST_BYTES = 256

interface Stored {
  graph: GraphProto
  tensor: TensorProto
}

/** Moves constants in place; what the model computes stays the same. */
export function shareConstants(model: Model): void {
  if (!model.graph.node.some((node) => subgraphs(node).length > 0)) return
  for (const { graph } of allGraphs(model.graph)) storeConstants(graph)
  share(model.graph, tensorNames(model))
}

/** Makes initializers of Constant nodes, but for those that a graph hands out. */
function storeConstants(graph: GraphProto): void {
  const outputs = new Set(graph.output.map(({ name }) => name))
  graph.node = graph.node.filter((node) => {
    const value = node.opType === 'Constant' && !outputs.has(node.output[0]!) ? attribute(node, 'value')?.t : undefined
    if (value === undefined) return true
    const stored = shallowCopy(value)
    stored.name = node.output[0]!
    graph.initializer.push(stored)
    return false
  })
}

/** Shares what `graph` and the graphs inside it hold; returns what they hold then, one of each content. */
function share(graph: GraphProto, uniqueName: (base: string) => string): Map<string, Stored> {
  const found = new Map<string, Stored>()
  const fixed = new Set([...graph.input, ...graph.output].map(({ name }) => name))
  for (const tensor of graph.initializer) {
    if (tensor.rawData.length >= LEAST_BYTES && !fixed.has(tensor.name)) found.set(contentOf(tensor), { graph, tensor })
  }
  for (const inner of graph.node.flatMap(subgraphs)) {
    for (const [content, stored] of share(inner, uniqueName)) {
      const known = found.get(content)
      if (known === undefined) {
        found.set(content, stored)
        continue
      }
      if (known.graph !== graph) {
        const moved = shallowCopy(known.tensor)
        moved.name = uniqueName(known.tensor.name)
        graph.initializer.push(moved)
        replace(known, moved.name)
        found.set(content, { graph, tensor: moved })
      }
      replace(stored, found.get(content)!.tensor.name)
    }
  }
  return found
}

function contentOf({ dataType, dims, rawData }: TensorProto): string {
  return createHash('sha256')
    .update(`${dataType} ${dims.join('x')} `)
    .update(rawData)
    .digest('base64')
}

/** Drops a constant from its graph, whose nodes read `instead`. */
function replace({ graph, tensor }: Stored, instead: string): void {
  graph.initializer = graph.initializer.filter((one) => one !== tensor)
  rename(graph, tensor.name, instead)
}

function rename(graph: GraphProto, before: string, after: string): void {
  for (const node of graph.node) {
    if (node.input.includes(before)) node.input = node.input.map((name) => (name === before ? after : name))
    for (const inner of subgraphs(node)) rename(inner, before, after)
  }
}
