// The part of a model that computes given tensors, to read them off without running the rest.
import { usedTensors } from '../../onnx/graph.js'
import { create, GraphProtoSchema, ModelProtoSchema, type ModelProto, type NodeProto, type TensorProto, type ValueInfoProto } from '../../onnx/proto.js'
import type { Model } from '../passes/pass.js'

/** `added` nodes and their constants come after the model's own. Inputs are the model's; weights and nodes are shared with it. */
export function modelUpTo(
  model: Model,
  outputs: readonly ValueInfoProto[],
  added: { nodes: readonly NodeProto[]; initializers: readonly TensorProto[] } = { nodes: [], initializers: [] },
): ModelProto {
  const { graph } = model
  const live = new Set(outputs.map(({ name }) => name))
  const nodes: NodeProto[] = []
  for (const candidate of [...graph.node, ...added.nodes].reverse()) {
    if (!candidate.output.some((name) => live.has(name))) continue
    for (const name of usedTensors(candidate)) live.add(name)
    nodes.push(candidate)
  }
  const initializer = [...graph.initializer, ...added.initializers].filter(({ name }) => live.has(name))
  return create(ModelProtoSchema, { ...model, graph: create(GraphProtoSchema, { ...graph, node: nodes.reverse(), initializer, output: [...outputs] }) })
}
