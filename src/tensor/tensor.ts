// Dense tensors: a dtype, dims and one typed array, row-major. Leaf layer: knows neither ONNX files
// nor the runtime. Half floats travel as their 16-bit patterns (float16.ts converts).

/** dtype → bytes per element, array type, and the number ONNX's TensorProto.DataType gives it. */
export const dtypes = {
  float32: { bytes: 4, array: Float32Array, onnx: 1, v2: 'FP32' },
  uint8: { bytes: 1, array: Uint8Array, onnx: 2, v2: 'UINT8' },
  int8: { bytes: 1, array: Int8Array, onnx: 3, v2: 'INT8' },
  uint16: { bytes: 2, array: Uint16Array, onnx: 4, v2: 'UINT16' },
  int16: { bytes: 2, array: Int16Array, onnx: 5, v2: 'INT16' },
  int32: { bytes: 4, array: Int32Array, onnx: 6, v2: 'INT32' },
  int64: { bytes: 8, array: BigInt64Array, onnx: 7, v2: 'INT64' },
  string: { bytes: 0, array: Array<string>, onnx: 8, v2: 'BYTES' },
  bool: { bytes: 1, array: Uint8Array, onnx: 9, v2: 'BOOL' },
  float16: { bytes: 2, array: Uint16Array, onnx: 10, v2: 'FP16' },
  float64: { bytes: 8, array: Float64Array, onnx: 11, v2: 'FP64' },
  uint32: { bytes: 4, array: Uint32Array, onnx: 12, v2: 'UINT32' },
  uint64: { bytes: 8, array: BigUint64Array, onnx: 13, v2: 'UINT64' },
  bfloat16: { bytes: 2, array: Uint16Array, onnx: 16, v2: 'BF16' },
} as const

export type DType = keyof typeof dtypes
export type NumericArray =
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>
export type TensorData = NumericArray | string[]

export interface Tensor {
  dtype: DType
  dims: readonly number[]
  data: TensorData
}

/** A declared input or output: a number is a fixed size, a string names a symbolic dimension, −1 is free. */
export interface TensorSpec {
  name: string
  dtype: DType
  dims: readonly (number | string)[]
}

/** Number of elements of `dims`; 1 for a scalar. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1)
}

/** Bytes a tensor's elements occupy; strings count their UTF-8 bytes. */
export function byteSize(tensor: Tensor): number {
  if (Array.isArray(tensor.data)) return tensor.data.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  return tensor.data.byteLength
}

/**
 * Views `bytes` (little-endian, row-major) as elements of `dtype`, copying only if they are not aligned.
 * The byte length must be a multiple of the element size; strings are not supported here.
 */
export function viewBytes(dtype: Exclude<DType, 'string'>, bytes: Uint8Array<ArrayBuffer>): NumericArray {
  const { array, bytes: width } = dtypes[dtype]
  // Not slice(): a Buffer's shares memory, and stays where it is.
  const aligned = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes)
  return new array(aligned.buffer, aligned.byteOffset, aligned.byteLength / width)
}

/** Allocates zeros (or empty strings) of a dtype. */
export function allocate(dtype: DType, count: number): TensorData {
  if (dtype === 'string') return new Array<string>(count).fill('')
  return new dtypes[dtype].array(count)
}
