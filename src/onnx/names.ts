// Fresh names. Tensors are unique in a graph and may not shadow outer ones; the runtime also refuses two
// nodes of one name. Both are made unique over the whole model, which is more than either asks.
import { allGraphs } from './graph.js'
import type { GraphProto, ModelProto, NodeProto } from './proto.js'

/** Makes tensor names that no tensor or node of the model has. */
export function tensorNames(model: ModelProto & { graph: GraphProto }): (base: string) => string {
  const taken = new Set<string>()
  for (const { graph } of allGraphs(model.graph)) {
    for (const { name } of [...graph.input, ...graph.initializer, ...graph.output]) taken.add(name)
    for (const node of graph.node) for (const name of [node.name, ...node.input, ...node.output]) taken.add(name)
  }
  return (base) => unique(base, taken)
}

/** Renames the nodes of `added` that have the name of another node; names of `removed` are free again. */
export type NameNodes = (removed: readonly NodeProto[], added: readonly NodeProto[]) => void

export function nodeNames(model: ModelProto & { graph: GraphProto }): NameNodes {
  const taken = new Set<string>()
  for (const { graph } of allGraphs(model.graph)) for (const { name } of graph.node) taken.add(name)
  return (removed, added) => {
    for (const { name } of removed) taken.delete(name)
    for (const node of added) if (node.name !== '') node.name = unique(node.name, taken)
  }
}

function unique(base: string, taken: Set<string>): string {
  let name = base
  for (let n = 1; taken.has(name); n++) name = `${base}_${n}`
  taken.add(name)
  return name
}
