// Types and shapes of all tensors of a model's outermost graph, by running it: exact for every operator, without
// inference rules. Only the shapes leave the runtime. What the runtime itself infers without running is told beside.
import { subgraphs } from '../onnx/attributes.js'
import { node as makeNode, valueInfo } from '../onnx/builder.js'
import { tensorNames } from '../onnx/names.js'
import { create, encodeModel, shallowCopy, ValueInfoProtoSchema, type GraphProto, type ModelProto, type NodeProto } from '../onnx/proto.js'
import type { DType, Tensor } from '../tensor/tensor.js'
import { openSession, type Session } from './session.js'

export interface ObservedTensor {
  dtype: DType
  /** One a feed set. */
  dims: readonly (readonly number[])[]
  /** By the runtime's shape inference: a size, the name of one, or −1 where it cannot tell. Of no rank where it cannot tell that either. */
  inferred: readonly (number | string)[]
}

export interface ObserveOptions {
  /** Opens the model with its observers; default: from memory, optimizations disabled. */
  open?: (observing: ModelProto) => Promise<Session>
}

/**
 * The inputs fed and every tensor that nodes write; sequences and optionals are left out.
 * @throws what the runtime throws for a model that it cannot run on `feedSets`
 */
export async function observeTensors(
  model: ModelProto & { graph: GraphProto },
  feedSets: readonly Readonly<Record<string, Tensor>>[],
  { open = fromMemory }: ObserveOptions = {},
): Promise<Map<string, ObservedTensor>> {
  const unique = tensorNames(model)
  const names = model.graph.node.flatMap(tensorsOf)
  const shapeOf = new Map(names.map((name) => [unique(`${name}::shape`), name]))
  const session = await open(withObservers(model, shapeOf))
  try {
    const specs = new Map([...session.inputs, ...session.outputs].map((spec) => [spec.name, spec]))
    const seen = new Map<string, (readonly number[])[]>()
    for (const feeds of feedSets) {
      const shapes = await session.run(feeds, [...shapeOf.keys()])
      const dims = [...shapeOf].map(([shape, name]) => [name, numbersOf(shapes[shape])] as const)
      for (const [name, sizes] of [...Object.entries(feeds).map(([name, tensor]) => [name, tensor.dims] as const), ...dims]) {
        seen.set(name, [...(seen.get(name) ?? []), sizes])
      }
    }
    return new Map(
      [...seen].flatMap(([name, dims]): [string, ObservedTensor][] => {
        const spec = specs.get(name)
        return spec === undefined ? [] : [[name, { dtype: spec.dtype, dims, inferred: spec.dims }]]
      }),
    )
  } finally {
    await session.release()
  }
}

function fromMemory(model: ModelProto): Promise<Session> {
  return openSession(encodeModel(model), { optimization: 'disabled' })
}

/** The runtime walks back from the nodes that nothing reads, the last one first: early tensors are looked at last, so that each is freed soon. */
function withObservers(model: ModelProto & { graph: GraphProto }, shapeOf: ReadonlyMap<string, string>): ModelProto {
  const graph = shallowCopy(model.graph)
  graph.node = [...graph.node, ...[...shapeOf].reverse().map(([output, name]) => makeNode('Shape', [name], [output]))]
  // The tensors themselves are outputs so that the runtime tells their types, but are not fetched.
  const own = [...shapeOf.values()].map((name) => create(ValueInfoProtoSchema, { name }))
  graph.output = [...[...shapeOf].map(([output, name]) => valueInfo(output, 'int64', [`${name}::rank`])), ...own]
  const observing = shallowCopy(model)
  observing.graph = graph
  return observing
}

/** The outputs of a node but for sequences and optionals, which only some operators write. */
function tensorsOf(node: NodeProto): string[] {
  if (/^(Sequence(Construct|Empty|Erase|Insert|Map)|SplitToSequence|Optional)$/.test(node.opType)) return []
  // The last outputs of a node with subgraphs are theirs.
  const inner = subgraphs(node)[0]?.output ?? []
  return node.output.filter((name, position) => {
    const kind = inner.at(position - node.output.length)?.type?.value.case
    return name !== '' && (kind === undefined || kind === 'tensorType')
  })
}

function numbersOf(tensor: Tensor | undefined): number[] {
  return Array.from(tensor?.data as BigInt64Array, Number)
}
