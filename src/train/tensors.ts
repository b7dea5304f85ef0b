// Shapes and types of a static graph's tensors, observed by running it once: exact for every operator, without
// inference rules. Only the shapes leave the runtime.
import { dtypeOf, node as makeNode, tensorValues, valueInfo } from '../onnx/builder.js'
import { tensorNames } from '../onnx/names.js'
import { create, encodeModel, GraphProtoSchema, ModelProtoSchema, ValueInfoProtoSchema, type GraphProto, type ModelProto } from '../onnx/proto.js'
import { openSession } from '../runtime/session.js'
import type { DType, Tensor } from '../tensor/tensor.js'
import type { Tensors } from './gradient.js'

/**
 * Runs the model on `feeds`, which must have the one shape that it is trained with.
 * @throws what the runtime throws for a model that it cannot run on them
 */
export async function observeTensors(model: ModelProto & { graph: GraphProto }, feeds: Readonly<Record<string, Tensor>>): Promise<Tensors> {
  const { graph } = model
  const unique = tensorNames(model)
  const names = graph.node.flatMap(({ output }) => output.filter((name) => name !== ''))
  const shapeOf = new Map(names.map((name) => [unique(`${name}::shape`), name]))
  const node = [...graph.node, ...[...shapeOf].map(([output, name]) => makeNode('Shape', [name], [output]))]
  const shapes = [...shapeOf.keys()].map((name) => valueInfo(name, 'int64', [`${name}::rank`]))
  // The tensors themselves are outputs so that the runtime tells their types, but are not fetched.
  const output = [...shapes, ...names.map((name) => create(ValueInfoProtoSchema, { name }))]
  const observing = create(ModelProtoSchema, { ...model, graph: create(GraphProtoSchema, { ...graph, node, output }) })
  const known = new Map<string, { dtype: DType; dims: readonly number[] }>(Object.entries(feeds))
  for (const { name, dataType, dims } of graph.initializer) known.set(name, { dtype: dtypeOf(dataType) as DType, dims: dims.map(Number) })
  const session = await openSession(encodeModel(observing), { optimization: 'disabled' })
  try {
    const types = new Map(session.outputs.map(({ name, dtype }) => [name, dtype]))
    const seen = await session.run(feeds, [...shapeOf.keys()])
    for (const [shape, name] of shapeOf) known.set(name, { dtype: types.get(name) as DType, dims: Array.from(seen[shape]?.data as BigInt64Array, Number) })
  } finally {
    await session.release()
  }
  const of = (tensor: string) => {
    const found = known.get(tensor)
    if (found === undefined) throw new Error(`the graph has no tensor "${tensor}"`)
    return found
  }
  const constants = new Map(graph.initializer.map((proto) => [proto.name, proto]))
  for (const {
    opType,
    output: [name],
    attribute,
  } of graph.node) {
    const value = opType === 'Constant' ? attribute.find((one) => one.name === 'value')?.t : undefined
    if (name !== undefined && value) constants.set(name, value)
  }
  return {
    dims: (tensor) => of(tensor).dims,
    dtype: (tensor) => of(tensor).dtype,
    constant: (tensor) => {
      const proto = constants.get(tensor)
      return proto && tensorValues(proto)
    },
  }
}
