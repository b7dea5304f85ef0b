// Replaces nodes one by one in every graph of a model, subgraphs included, and keeps the account of it: one
// decision a node. What becomes of a node is the business of the pass.
import type { NodeDecision } from '../../measurements.js'
import { GraphIndex } from '../../onnx/graph.js'
import { create, OperatorSetIdProtoSchema, type GraphProto, type NodeProto, type TensorProto } from '../../onnx/proto.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { labelOf, ownedGraphs } from './decisions.js'
import type { Model } from './pass.js'

/** One graph with what it sees of the graphs around it. */
export interface Scope {
  readonly graph: GraphProto
  readonly index: GraphIndex
  readonly outer: Scope | undefined
  /** What the labels of its nodes begin with. */
  readonly prefix: string
}

/** A constant with the graph that holds it, where what replaces it belongs: every reader sees that graph. */
export interface StoredConstant {
  proto: TensorProto
  owner: GraphProto
}

/** What a node becomes, or why it stays. */
export type NodeChange = { nodes: NodeProto[]; reason: string } | { nodes?: undefined; reason: string }

/**
 * Offers every node to `change`, in order, and puts what it returns in the node's place; drops what is dead
 * afterwards. Changes `model`. Nodes of a subgraph come before the node that owns it.
 */
export function rewriteNodes(model: Model, pass: string, change: (node: NodeProto, scope: Scope) => NodeChange): NodeDecision[] {
  const walk = (scope: Scope): NodeDecision[] => {
    const decisions: NodeDecision[] = []
    const nodes: NodeProto[] = []
    for (const node of scope.graph.node) {
      const inner = innerScopes(node, scope).flatMap(walk)
      const { nodes: replacement, reason } = change(node, scope)
      nodes.push(...(replacement ?? [node]))
      decisions.push({ node: labelIn(scope, node), opType: node.opType, pass, action: replacement === undefined ? 'skipped' : 'done', reason }, ...inner)
    }
    scope.graph.node = nodes
    return decisions
  }
  const decisions = walk(outermostScope(model.graph))
  removeDeadNodes(model)
  return decisions
}

/** Every graph of a model as a scope, outer ones first. */
export function scopesOf({ graph }: Model): Scope[] {
  const inside = (scope: Scope): Scope[] => [scope, ...scope.graph.node.flatMap((node) => innerScopes(node, scope).flatMap(inside))]
  return inside(outermostScope(graph))
}

/** The label of a node in its decision. */
export function labelIn({ prefix }: Scope, node: NodeProto): string {
  return prefix + labelOf(node)
}

function outermostScope(graph: GraphProto): Scope {
  return { graph, index: new GraphIndex(graph), outer: undefined, prefix: '' }
}

function innerScopes(node: NodeProto, outer: Scope): Scope[] {
  return [...ownedGraphs(node, outer.prefix)].map(({ graph, prefix }) => ({ graph, index: new GraphIndex(graph, outer.index), outer, prefix }))
}

/** The constant that `tensor` names in `scope`, an Identity of one included; undefined where it is computed or an input. */
export function storedConstant(tensor: string, scope: Scope): StoredConstant | undefined {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.outer) {
    const { graph, index } = at
    const producer = index.producer(tensor)
    if (producer?.opType === 'Identity') return storedConstant(producer.input[0] ?? '', at)
    const local = index.initializer(tensor) ?? (producer?.opType === 'Constant' ? index.constantProto(tensor) : undefined)
    if (local !== undefined) return { proto: local, owner: graph }
    if (producer !== undefined || graph.input.some(({ name }) => name === tensor)) return undefined
  }
  return undefined
}

/** The node that writes `tensor`, in whichever graph of `scope` that is. */
export function producerOf(tensor: string, scope: Scope): NodeProto | undefined {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.outer) {
    const producer = at.index.producer(tensor)
    if (producer !== undefined || at.graph.input.some(({ name }) => name === tensor)) return producer
  }
  return undefined
}

/** Declares that the model uses operators of `com.microsoft`. */
export function importMicrosoftOperators(model: Model): void {
  if (model.opsetImport.some(({ domain }) => domain === 'com.microsoft')) return
  model.opsetImport.push(create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }))
}
