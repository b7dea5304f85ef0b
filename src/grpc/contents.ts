// Inputs of a ModelInfer request → tensors: raw bytes for each, or elements in the field of their datatype.
// Names, datatypes and shapes are checked as for the REST door, and so are the elements.
import type { ModelVersion } from '../registry/model.js'
import { allocate, dtypes, elementCount, type DType, type Tensor, type TensorSpec } from '../tensor/tensor.js'
import { readRaw, textOf } from '../wire/binary.js'
import { shapeText } from '../wire/describe.js'
import { fillElements } from '../wire/elements.js'
import { checkShape, checkType, decodeAll, inputError } from '../wire/signature.js'
import type { InferRequestMessage, InputTensor, TensorContents } from './messages.js'

const FIELDS: Readonly<Record<DType, keyof TensorContents | undefined>> = {
  bool: 'bool_contents',
  int8: 'int_contents',
  int16: 'int_contents',
  int32: 'int_contents',
  int64: 'int64_contents',
  uint8: 'uint_contents',
  uint16: 'uint_contents',
  uint32: 'uint_contents',
  uint64: 'uint64_contents',
  float32: 'fp32_contents',
  float64: 'fp64_contents',
  string: 'bytes_contents',
  float16: undefined,
  bfloat16: undefined,
}

/**
 * All inputs of a request by name.
 * @throws FlyweightError `invalid_input` naming every input at fault
 */
export function decodeInputs({ signature }: Pick<ModelVersion, 'signature'>, request: InferRequestMessage): Record<string, Tensor> {
  const { inputs, raw_input_contents: raw } = request
  if (raw.length > 0 && raw.length !== inputs.length) {
    throw inputError('/raw_input_contents', `has ${raw.length} entries, expected one for each of the ${inputs.length} inputs, or none`)
  }
  return decodeAll(
    signature,
    inputs.map((input, index) => ({ name: input.name, pointer: `/inputs/${index}`, source: { input, index } })),
    (spec, { input, index }, pointer) => {
      checkType(dtypes[spec.dtype].v2, input.datatype, `${pointer}/datatype`)
      const dims = checkShape(spec, input.shape.map(Number), `${pointer}/shape`)
      const bytes = raw[index]
      if (bytes === undefined) return readContents(spec, dims, input, `${pointer}/contents`)
      if (filledFields(input).length > 0) throw inputError(`${pointer}/contents`, 'is there beside raw_input_contents, expected one of the two')
      return readRaw(spec, dims, bytes, `/raw_input_contents/${index}`)
    },
  )
}

function readContents(spec: TensorSpec, dims: readonly number[], input: InputTensor, pointer: string): Tensor {
  const { dtype } = spec
  const { v2 } = dtypes[dtype]
  const field = FIELDS[dtype]
  if (field === undefined) throw inputError(pointer, `cannot hold ${v2}, expected raw_input_contents`)
  const wrong = filledFields(input).find((filled) => filled !== field)
  if (wrong !== undefined) throw inputError(`${pointer}/${wrong}`, `is there, expected ${field} for ${v2}`)
  const values = input.contents?.[field] ?? []
  const count = elementCount(dims)
  if (values.length !== count) throw inputError(`${pointer}/${field}`, `has ${values.length} elements, expected ${count} for shape ${shapeText(dims)}`)
  return { dtype, dims, data: elementsOf(dtype, values, `${pointer}/${field}`) }
}

function elementsOf(dtype: DType, values: readonly unknown[], pointer: string): Tensor['data'] {
  // Any float is one that the wire can carry: no need to look at each.
  if (dtype === 'float32') return Float32Array.from(values as readonly number[])
  if (dtype === 'float64') return Float64Array.from(values as readonly number[])
  if (dtype === 'string') return (values as readonly Uint8Array[]).map((bytes, index) => textOf(bytes, index, pointer))
  const target = allocate(dtype, values.length)
  fillElements(dtype, values, { target, offset: 0 }, pointer)
  return target
}

function filledFields({ contents }: InputTensor): string[] {
  return Object.entries(contents ?? {}).flatMap(([field, values]) => (values.length > 0 ? [field] : []))
}
