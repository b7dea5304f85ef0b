// The order in which nodes are recovered: from the inputs on, those together of which none depends on another.
import { usedTensors } from '../../onnx/graph.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'

export interface Levels {
  /** Nodes in groups: no node of a group is upstream of another, and what is upstream of a group is in earlier ones. */
  levels: NodeProto[][]
  /** Of each computed tensor: how many levels come before it is what it will be. */
  depths: ReadonlyMap<string, number>
}

export function levelsOf(graph: GraphProto, nodes: ReadonlySet<NodeProto>): Levels {
  const depths = new Map<string, number>()
  const levels: NodeProto[][] = []
  for (const node of graph.node) {
    let depth = 0
    for (const tensor of usedTensors(node)) depth = Math.max(depth, depths.get(tensor) ?? 0)
    if (nodes.has(node)) {
      const level = (levels[depth] ??= [])
      level.push(node)
      depth += 1
    }
    for (const tensor of node.output) depths.set(tensor, depth)
  }
  return { levels, depths }
}
