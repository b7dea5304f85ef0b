// Constants that nodes hold, as old exporters write weights, made initializers: one way to store a constant.
import { attribute } from './attributes.js'
import type { GraphProto } from './proto.js'

/** Stores the tensors of `Constant` nodes of the graph as initializers of their outputs' names; in place, subgraphs left alone. */
export function storeConstantNodes(graph: GraphProto): void {
  graph.node = graph.node.filter((node) => {
    const value = node.opType === 'Constant' ? attribute(node, 'value')?.t : undefined
    if (value === undefined || node.output[0] === undefined) return true
    value.name = node.output[0]
    graph.initializer.push(value)
    return false
  })
}
