// Which tensors of a model are float32. A model need not say so for those between its nodes, and the runtime
// leaves it out of what it saves, so the runtime's own type inference is asked.
import { subgraphs } from '../onnx/attributes.js'
import { create, GraphProtoSchema, ModelProtoSchema, ValueInfoProtoSchema, type NodeProto } from '../onnx/proto.js'
import { dtypes } from '../tensor/tensor.js'
import { openModel } from './open-model.js'
import type { Model } from './passes/pass.js'

/** Names of the float32 tensors of the outermost graph. Throws what the runtime throws for a model it cannot load. */
export async function floatTensors({ graph, ...model }: Model): Promise<Set<string>> {
  const names = graph.node.flatMap((node) => tensorsOf(node))
  const output = names.map((name) => create(ValueInfoProtoSchema, { name }))
  const session = await openModel(create(ModelProtoSchema, { ...model, graph: create(GraphProtoSchema, { ...graph, output }) }), { optimization: 'disabled' })
  await session.release()
  const computed = [...session.inputs, ...session.outputs].filter(({ dtype }) => dtype === 'float32')
  const stored = graph.initializer.filter(({ dataType }) => dataType === dtypes.float32.onnx)
  return new Set([...computed, ...stored].map(({ name }) => name))
}

/** The outputs of a node but for sequences and optionals, which only some operators write. */
export function tensorsOf(node: NodeProto): string[] {
  return node.output.filter((name, position) => name !== '' && isTensor(node, position))
}

/** The last outputs of a node with subgraphs are theirs. */
function isTensor(node: NodeProto, position: number): boolean {
  if (/^(Sequence(Construct|Empty|Erase|Insert|Map)|SplitToSequence|Optional)$/.test(node.opType)) return false
  const inner = subgraphs(node)[0]?.output.at(position - node.output.length)
  const kind = inner?.type?.value.case
  return kind === undefined || kind === 'tensorType'
}
