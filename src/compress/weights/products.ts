// Products with a constant matrix, MatMul or Gemm, in one form whatever the node says: who multiplies what,
// how the matrix lies in memory, what is added. Used by the passes that store weights in fewer bits.
import { floatAttribute, intAttribute, intsAttribute } from '../../onnx/attributes.js'
import { tensorValues } from '../../onnx/builder.js'
import type { NodeProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'
import { producerOf, storedConstant, type Scope, type StoredConstant } from '../passes/rewrite-nodes.js'

/** input · matrix · alpha + bias. */
export interface Product {
  input: string
  matrix: Matrix
  alpha: number
  /** Name of what is added; empty where nothing is. */
  bias: string
}

/** A stored float32 matrix that multiplies as [inner, outer]. */
export interface Matrix extends StoredConstant {
  /** It is stored as [outer, inner]. */
  transposed: boolean
  inner: number
  outer: number
}

/** Reads `node` as a product with a stored float32 matrix, or says why it is none. */
export function constantProduct(node: NodeProto, scope: Scope): Product | { refusal: string } {
  const gemm = node.opType === 'Gemm'
  const [input = '', weight = '', bias = ''] = node.input
  const found = storedMatrix(weight, scope)
  if ('refusal' in found) return found
  if (gemm && intAttribute(node, 'transA', 0) !== 0) return { refusal: 'its left operand is transposed' }
  if (gemm && bias !== '' && floatAttribute(node, 'beta', 1) !== 1) return { refusal: 'it scales its bias' }
  const matrix = gemm && intAttribute(node, 'transB', 0) !== 0 ? { ...found, transposed: !found.transposed, inner: found.outer, outer: found.inner } : found
  return { input, matrix, alpha: gemm ? floatAttribute(node, 'alpha', 1) : 1, bias: gemm ? bias : '' }
}

/** The matrix that `tensor` names: stored as it is, or with a Transpose on the way, as tied weights are. */
function storedMatrix(tensor: string, scope: Scope): Matrix | { refusal: string } {
  const producer = producerOf(tensor, scope)
  const flips = producer?.opType === 'Transpose' && String(intsAttribute(producer, 'perm') ?? [1, 0]) === '1,0'
  const stored = storedConstant(flips ? (producer.input[0] ?? '') : tensor, scope)
  if (stored === undefined) return { refusal: 'its right operand is not constant' }
  const { dataType, dims } = stored.proto
  if (dataType !== dtypes.float32.onnx) return { refusal: 'its weights are not float32' }
  if (dims.length !== 2) return { refusal: `its weights have rank ${dims.length}, not 2` }
  const [rows, columns] = dims.map(Number) as [number, number]
  return flips ? { ...stored, transposed: true, inner: columns, outer: rows } : { ...stored, transposed: false, inner: rows, outer: columns }
}

/** A stored float32 table, [rows, width]. */
export interface Table extends StoredConstant {
  rows: number
  width: number
}

/** The stored table from which a Gather takes rows, or why there is none. */
export function constantTable(node: NodeProto, scope: Scope): Table | { refusal: string } {
  const stored = storedConstant(node.input[0] ?? '', scope)
  if (stored === undefined) return { refusal: 'its table is not constant' }
  const { dataType, dims } = stored.proto
  if (dataType !== dtypes.float32.onnx) return { refusal: 'its table is not float32' }
  if (dims.length !== 2) return { refusal: `its table has rank ${dims.length}, not 2` }
  const axis = intAttribute(node, 'axis', 0)
  if (axis !== 0 && axis !== -2) return { refusal: 'it does not gather rows' }
  const [rows, width] = dims.map(Number) as [number, number]
  return { ...stored, rows, width }
}

/** The matrix as [outer, inner] in memory: what one output is made of lies together. */
export function byOutput({ proto, transposed, inner, outer }: Matrix): Float32Array<ArrayBuffer> {
  const values = tensorValues(proto).data as Float32Array<ArrayBuffer>
  return transposed ? values : flipped(values, inner, outer)
}

/** The matrix as [inner, outer] in memory. */
export function byInput({ proto, transposed, inner, outer }: Matrix): Float32Array<ArrayBuffer> {
  const values = tensorValues(proto).data as Float32Array<ArrayBuffer>
  return transposed ? flipped(values, outer, inner) : values
}

/** A [rows, columns] matrix as [columns, rows]. */
export function flipped<T extends Float32Array<ArrayBuffer> | Int8Array<ArrayBuffer>>(values: T, rows: number, columns: number): T {
  const result = new (values.constructor as new (length: number) => T)(values.length)
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) result[column * rows + row] = values[row * columns + column]!
  return result
}
