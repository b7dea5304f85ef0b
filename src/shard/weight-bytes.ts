// Bytes of weights, whether they are in the model's file or beside it.
import { externalBytes } from '../onnx/external-data.js'
import type { GraphProto, NodeProto, TensorProto } from '../onnx/proto.js'

/** By name; a sparse one is two. */
export function storedTensors(graph: GraphProto): Map<string, TensorProto[]> {
  const sparse = graph.sparseInitializer.flatMap(({ values, indices }): [string, TensorProto[]][] =>
    values === undefined ? [] : [[values.name, indices === undefined ? [values] : [values, indices]]],
  )
  return new Map([...sparse, ...graph.initializer.map((tensor): [string, TensorProto[]] => [tensor.name, [tensor]])])
}

/** Of the tensors that a node has in itself, its subgraphs included. */
export function heldBytes(node: NodeProto): number {
  let total = 0
  for (const { t, g, tensors, graphs } of node.attribute) {
    for (const tensor of t === undefined ? tensors : [t, ...tensors]) total += storedBytes(tensor)
    for (const graph of g === undefined ? graphs : [g, ...graphs]) {
      for (const tensor of [...storedTensors(graph).values()].flat()) total += storedBytes(tensor)
      for (const inner of graph.node) total += heldBytes(inner)
    }
  }
  return total
}

export function storedBytes(tensor: TensorProto): number {
  return tensor.rawData.length || externalBytes(tensor)
}
