// How passes name nodes in their reports, so that every node of the source model is accounted for: those of
// subgraphs by the path that leads to them.
import type { NodeDecision } from '../../measurements.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'
import type { Model } from './pass.js'

/** A node's name; where it has none, that of the first tensor it writes, which is unique too. */
export function labelOf({ name, output }: NodeProto): string {
  return name === '' ? (output.find((tensor) => tensor !== '') ?? '') : name
}

/** The graphs that a node owns, each with the label prefix of its nodes: `outer/then_branch/`. */
export function* ownedGraphs(node: NodeProto, prefix = ''): Generator<{ graph: GraphProto; prefix: string }> {
  for (const { name, g, graphs } of node.attribute) {
    for (const [position, graph] of [...(g ? [g] : []), ...graphs].entries()) {
      yield { graph, prefix: `${prefix}${labelOf(node)}/${position === 0 ? name : `${name}${position}`}/` }
    }
  }
}

/** Every node of a graph and of the graphs inside it, outer ones first, with its label. */
export function* labelledNodes(graph: GraphProto, prefix = ''): Generator<{ node: NodeProto; label: string; inner: boolean }> {
  for (const node of graph.node) {
    yield { node, label: prefix + labelOf(node), inner: prefix !== '' }
    for (const owned of ownedGraphs(node, prefix)) yield* labelledNodes(owned.graph, owned.prefix)
  }
}

/** A decision for each node of `source` that no decision names: preparation merged it into others, or the pass leaves subgraphs alone. */
export function foldedNodes(source: Model, decided: readonly NodeDecision[], pass: string): NodeDecision[] {
  const names = new Set(decided.map(({ node }) => node))
  const nodes = [...labelledNodes(source.graph)]
  const looksInside = nodes.some(({ label, inner }) => inner && names.has(label))
  return nodes
    .filter(({ label }) => !names.has(label))
    .map(({ node, label, inner }) => ({
      node: label,
      opType: node.opType,
      pass,
      action: 'skipped',
      reason: inner && !looksInside ? 'it is in a subgraph, which this pass leaves as it is' : 'folded into other nodes beforehand',
    }))
}
