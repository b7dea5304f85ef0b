// How values that pass between stages are declared: types and ranks as seen, sizes as the runtime infers them for
// certain. A size that merely was the same in all runs is left open: a stage must take whatever the whole took.
import { create, TensorShapeProto_DimensionSchema, TensorShapeProtoSchema, TypeProto_TensorSchema, TypeProtoSchema } from '../onnx/proto.js'
import { ValueInfoProtoSchema, type GraphProto, type ValueInfoProto } from '../onnx/proto.js'
import type { ObservedTensor } from '../runtime/observe-tensors.js'
import { dtypes } from '../tensor/tensor.js'

/** Declarations of the observed tensors of `graph`; undefined for what is no tensor. */
export function valueTypes(graph: GraphProto, observed: ReadonlyMap<string, ObservedTensor>): (tensor: string) => ValueInfoProto | undefined {
  const symbols = new Map<string, readonly number[]>()
  for (const { name, dims } of inputDims(graph)) {
    for (const [axis, dim] of dims.entries()) if (dim !== '') symbols.set(dim, observed.get(name)?.dims.map((sizes) => sizes[axis] as number) ?? [])
  }
  const batch = inputDims(graph)
    .map(({ dims }) => dims[0] ?? '')
    .find((symbol) => new Set(symbols.get(symbol)).size > 1)
  const rows = batch === undefined ? undefined : String(symbols.get(batch))
  return (tensor) => {
    const found = observed.get(tensor)
    if (found === undefined) return undefined
    const { dtype, dims, inferred } = found
    const rank = dims[0]?.length ?? 0
    const uneven = dims.some(({ length }) => length !== rank)
    const sizes = Array.from({ length: rank }, (_, axis) => {
      const known = inferred.length === rank ? (inferred[axis] ?? -1) : -1
      // A name that the runtime made up could be one that it makes up again, for something else.
      if (typeof known === 'number' ? known >= 0 : symbols.has(known)) return known
      return axis === 0 && batch !== undefined && String(dims.map(([first]) => first)) === rows ? batch : -1
    })
    return declaration(tensor, dtypes[dtype].onnx, uneven ? undefined : sizes)
  }
}

/** Per input the names of its dimensions, '' where they have none. */
function inputDims(graph: GraphProto): { name: string; dims: string[] }[] {
  return graph.input.map(({ name, type }) => {
    const shape = type?.value.case === 'tensorType' ? type.value.value.shape : undefined
    return { name, dims: (shape?.dim ?? []).map(({ value }) => (value.case === 'dimParam' ? value.value : '')) }
  })
}

function declaration(name: string, elemType: number, sizes: readonly (number | string)[] | undefined): ValueInfoProto {
  const dim = sizes?.map((size) =>
    create(
      TensorShapeProto_DimensionSchema,
      size === -1 ? {} : { value: typeof size === 'number' ? { case: 'dimValue', value: BigInt(size) } : { case: 'dimParam', value: size } },
    ),
  )
  const tensorType = create(TypeProto_TensorSchema, { elemType, ...(dim && { shape: create(TensorShapeProtoSchema, { dim }) }) })
  return create(ValueInfoProtoSchema, { name, type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }) })
}
