// Shapes and types of a static graph's tensors, observed by running it once: exact for every operator, without
// inference rules, and its constants.
import { dtypeOf, tensorValues } from '../onnx/builder.js'
import type { GraphProto, ModelProto } from '../onnx/proto.js'
import { observeTensors as observe } from '../runtime/observe-tensors.js'
import type { DType, Tensor } from '../tensor/tensor.js'
import type { Tensors } from './gradient.js'

/**
 * Runs the model on `feeds`, which must have the one shape that it is trained with.
 * @throws what the runtime throws for a model that it cannot run on them
 */
export async function observeTensors(model: ModelProto & { graph: GraphProto }, feeds: Readonly<Record<string, Tensor>>): Promise<Tensors> {
  const { graph } = model
  const known = new Map<string, { dtype: DType; dims: readonly number[] }>()
  for (const [name, { dtype, dims }] of await observe(model, [feeds])) known.set(name, { dtype, dims: dims[0] as readonly number[] })
  for (const { name, dataType, dims } of graph.initializer) known.set(name, { dtype: dtypeOf(dataType) as DType, dims: dims.map(Number) })
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
