// A model whose inner tensors are looked at by nodes added to it, which reduce each to something small. The order of
// these nodes decides how much memory a run takes, and so how long: activations that live long are mapped afresh.
import { create, GraphProtoSchema, ModelProtoSchema, type ModelProto, type NodeProto, type TensorProto, type ValueInfoProto } from '../../onnx/proto.js'
import type { Model } from '../passes/pass.js'

/** What looks at one tensor of the outermost graph: `nodes` in the order in which they are computed. */
export interface Observer {
  tensor: string
  nodes: readonly NodeProto[]
  outputs: readonly ValueInfoProto[]
}

/**
 * `model` with the observers' outputs in place of its own; it shares weights and nodes with it. The runtime walks back
 * from nodes that nothing reads, the last one first, and computes what each needs. So observers of tensors that come
 * early are put last: each then runs as soon as its tensor is there, and the tensor's memory is used again. In the order
 * of the model all tensors would be alive at once.
 */
export function observedModel(model: Model, observers: readonly Observer[], initializers: readonly TensorProto[] = []): ModelProto {
  const { graph } = model
  const places = new Map(graph.node.flatMap(({ output }, place) => output.map((name) => [name, place] as const)))
  const place = ({ tensor }: Observer) => places.get(tensor) ?? -1
  const lastFirst = [...observers].sort((a, b) => place(b) - place(a))
  return create(ModelProtoSchema, {
    ...model,
    graph: create(GraphProtoSchema, {
      ...graph,
      node: [...graph.node, ...lastFirst.flatMap(({ nodes }) => nodes)],
      initializer: [...graph.initializer, ...initializers],
      output: observers.flatMap(({ outputs }) => outputs),
    }),
  })
}
