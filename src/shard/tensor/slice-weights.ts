// Shares of stored tensors.
import { dtypeOf, tensorProto, tensorValues } from '../../onnx/builder.js'
import { shallowCopy, type TensorProto } from '../../onnx/proto.js'
import { dtypes, type NumericArray } from '../../tensor/tensor.js'
import { fixedSizes, type AxisSplit, type UnitRange } from './axis-split.js'

/** Sizes along the axis that a part has; undefined where feed sets change them. */
export function partSize(split: AxisSplit, { from, to }: UnitRange): number | undefined {
  const sizes = fixedSizes(split)
  return sizes && sizes.outer * (to - from) * sizes.inner
}

/** The part's units of a stored tensor, under another name. Shares the bytes where they lie together. */
export function sliceTensor(proto: TensorProto, split: AxisSplit, { name, range }: { name: string; range: UnitRange }): TensorProto {
  const { outer, inner } = fixedSizes(split) as { outer: number; inner: number }
  const bytes = rawBytes(proto)
  const sizes = proto.dims.map(Number)
  const product = (dims: readonly number[]) => dims.reduce((total, size) => total * size, 1)
  const blocks = product(sizes.slice(0, split.axis)) * outer
  const unit = inner * product(sizes.slice(split.axis + 1)) * (bytes.length / Math.max(1, product(sizes)))
  const length = (range.to - range.from) * unit
  const piece = (block: number) => bytes.subarray((block * split.units + range.from) * unit, (block * split.units + range.from) * unit + length)
  const sliced = shallowCopy(proto)
  sliced.name = name
  sliced.dims = sizes.map((size, axis) => BigInt(axis === split.axis ? (partSize(split, range) ?? size) : size))
  sliced.rawData = piece(0)
  if (blocks > 1) {
    sliced.rawData = new Uint8Array(blocks * length)
    for (let block = 0; block < blocks; block++) sliced.rawData.set(piece(block), block * length)
  }
  for (const field of ['floatData', 'doubleData', 'int32Data', 'int64Data', 'uint64Data'] as const) sliced[field] = []
  return sliced
}

function rawBytes(proto: TensorProto): Uint8Array<ArrayBuffer> {
  if (proto.rawData.length > 0) return proto.rawData
  const { dtype, dims, data } = tensorValues(proto)
  return tensorProto('', dtype as 'float32', dims, data as NumericArray).rawData
}

/** Bytes of one element, or undefined for types whose elements cannot be told apart by whole bytes. */
export function elementBytes(proto: TensorProto): number | undefined {
  const dtype = dtypeOf(proto.dataType)
  return dtype === undefined || dtype === 'string' ? undefined : dtypes[dtype].bytes
}
