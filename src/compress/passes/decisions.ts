// How passes name nodes in their reports, so that every node of the source model is accounted for.
import type { NodeDecision } from '../../measurements.js'
import type { NodeProto } from '../../onnx/proto.js'
import type { Model } from './pass.js'

/** A node's name; where it has none, that of the first tensor it writes, which is unique too. */
export function labelOf({ name, output }: NodeProto): string {
  return name === '' ? (output.find((tensor) => tensor !== '') ?? '') : name
}

/** A decision for each node of `source` that preparation merged into others, so that no decision names it. */
export function foldedNodes(source: Model, decided: readonly NodeDecision[], pass: string): NodeDecision[] {
  const names = new Set(decided.map(({ node }) => node))
  return source.graph.node
    .filter((node) => !names.has(labelOf(node)))
    .map((node) => ({ node: labelOf(node), opType: node.opType, pass, action: 'skipped', reason: 'folded into other nodes beforehand' }))
}
