// Finds the weights that may lose elements, in all graphs of a model: each constant once, however many nodes
// share it, with a reason for every node that has none. Scores and selection are left to others.
import { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto, TensorProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'
import { tensorElements } from '../elements.js'
import { labelOf, ownedGraphs } from '../passes/decisions.js'
import type { Model } from '../passes/pass.js'
import { weightPositions, weightUse, type FeatureAxis, type WeightLayout } from './weight-layouts.js'

export interface Weight {
  proto: TensorProto
  count: number
  /** As the first node that reads it sees it. */
  layout: WeightLayout
  /** What it is multiplied with, in every node that sees it the same way. */
  activations: { tensor: string; axis: FeatureAxis }[]
}

export interface Restrictions {
  exclude: ReadonlySet<string>
  minWeights: number
  /** Inputs must come in multiples of this. */
  blockOf: number
  /** Weights must meet an activation that can be observed. */
  observable: boolean
  /** Weights must be float32 initializers of the outermost graph. */
  trainable: boolean
}

export interface FoundNode {
  label: string
  opType: string
  weights: Weight[]
  /** Why it has no weights that may be pruned; empty when it has. */
  refusal: string
}

/** Weights in the order of the nodes that read them first; every node of the model, subgraphs' with the path to them. */
export function findWeights(model: Model, restrictions: Restrictions): { weights: Weight[]; nodes: FoundNode[] } {
  const [weights, kept]: [Map<TensorProto, Weight>, Set<TensorProto>] = [new Map(), new Set()]
  const nodes: FoundNode[] = []
  const visit = (graph: GraphProto, path: string, outer?: GraphIndex): void => {
    const index = new GraphIndex(graph, outer)
    for (const node of graph.node) {
      const found: FoundNode = { label: `${path}${labelOf(node)}`, opType: node.opType, weights: [], refusal: '' }
      nodes.push(found)
      const positions = weightPositions(node)
      const refusals = positions.map((position) => {
        const proto = index.constantProto(node.input[position] ?? '')
        if (restrictions.exclude.has(labelOf(node))) {
          if (proto !== undefined) kept.add(proto)
          return 'excluded by the recipe'
        }
        if (proto === undefined) return position === 1 && positions.length === 1 ? 'its right operand is not constant' : 'its weights are not constant'
        return add(node, position, { proto, nested: outer !== undefined, initializer: index.initializer(proto.name) === proto, found })
      })
      if (found.weights.length === 0) found.refusal = refusals[0] ?? `${node.opType} has no weights to prune`
      for (const owned of ownedGraphs(node, path)) visit(owned.graph, owned.prefix, index)
    }
  }
  const add = (
    node: NodeProto,
    position: number,
    { proto, nested, initializer, found }: { proto: TensorProto; nested: boolean; initializer: boolean; found: FoundNode },
  ): string => {
    if (proto.dataType !== dtypes.float32.onnx && proto.dataType !== dtypes.float16.onnx) return 'its weights are not floating-point numbers'
    const count = tensorElements(proto.dims)
    if (count < restrictions.minWeights || count === 0) return `${count} weights are fewer than ${restrictions.minWeights}`
    const { layout, activation } = weightUse(node, position, proto.dims.map(Number))
    if (layout.inputs % restrictions.blockOf !== 0) return `its ${layout.inputs} inputs are no multiple of ${restrictions.blockOf}`
    if (restrictions.observable && nested) return 'what its weights meet cannot be observed inside a subgraph'
    if (restrictions.observable && activation === undefined) return 'what its weights meet cannot be observed inside the operator'
    if (restrictions.trainable && (nested || !initializer || proto.dataType !== dtypes.float32.onnx))
      return 'its weights are no float32 initializer of the main graph'
    const weight = weights.get(proto) ?? { proto, count, layout, activations: [] }
    weights.set(proto, weight)
    if (activation !== undefined && alike(layout, weight.layout))
      weight.activations.push({ tensor: node.input[activation.position] ?? '', axis: activation.axis })
    found.weights.push(weight)
    return ''
  }
  visit(model.graph, '')
  for (const proto of kept) weights.delete(proto)
  for (const found of nodes) {
    if (found.weights.length === 0) continue
    found.weights = found.weights.filter(({ proto }) => weights.has(proto))
    if (found.weights.length === 0) found.refusal = 'it shares its weights with a node that the recipe excludes'
  }
  return { weights: [...weights.values()], nodes }
}

function alike(a: WeightLayout, b: WeightLayout): boolean {
  return a.rows === b.rows && a.inputs === b.inputs && a.inputStride === b.inputStride && a.feature(a.rows - 1) === b.feature(b.rows - 1)
}
