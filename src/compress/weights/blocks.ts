// Weights in blocks of a few bits: `block` consecutive weights of one output share a scale and a zero point,
// real = scale · (code − zero). The numbers, and how `MatMulNBits` and `GatherBlockQuantized` of com.microsoft
// pack them (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
import { clamp, roundHalfEven } from '../quantize/affine.js'

export interface BlockFormat {
  bits: 4 | 8
  /** Weights that share a scale: a power of two, 16 or more. The last block of a row may be shorter. */
  block: number
  /** Zero is the code in the middle; else each block has the zero point that fits its range. */
  symmetric: boolean
}

/** A matrix of `rows` outputs, each `width` weights long, in codes. */
export interface BlockCodes {
  rows: number
  width: number
  /** One a weight, [rows, width]. */
  codes: Uint8Array
  /** One a block, [rows, blocks]. */
  scales: Float32Array<ArrayBuffer>
  /** One a block, [rows, blocks]. */
  zeros: Uint8Array
}

/** How one block is read. */
export interface BlockParams {
  scale: number
  zero: number
}

/** Below this a block holds nothing but rounding noise. */
const TINY_SCALE = 2 ** -100

export function blocksOf(width: number, { block }: BlockFormat): number {
  return Math.ceil(width / block)
}

/**
 * Parameters that cover values[from … to). Symmetric: the value of largest magnitude gets code 0, which is one step
 * further from zero than the last code, so values near its negative are off by up to a step; else nothing is off by
 * more than half a step.
 */
export function blockParams(values: Float32Array | Float64Array, from: number, to: number, { bits, symmetric }: BlockFormat): BlockParams {
  let [min, max] = [0, 0]
  for (let i = from; i < to; i++) {
    min = Math.min(min, values[i]!)
    max = Math.max(max, values[i]!)
  }
  const middle = 2 ** (bits - 1)
  const scale = Math.fround(symmetric ? (max > -min ? max : min) / -middle : (max - min) / (2 ** bits - 1))
  if (!(Math.abs(scale) > TINY_SCALE) || !Number.isFinite(scale)) return { scale: 1, zero: middle }
  return { scale, zero: symmetric ? middle : clamp(roundHalfEven(-min / scale), 0, 2 ** bits - 1) }
}

export function codeOf(value: number, { scale, zero }: BlockParams, bits: number): number {
  return clamp(roundHalfEven(value / scale) + zero, 0, 2 ** bits - 1)
}

export function emptyCodes(rows: number, width: number, format: BlockFormat): BlockCodes {
  const blocks = rows * blocksOf(width, format)
  return { rows, width, codes: new Uint8Array(rows * width), scales: new Float32Array(blocks), zeros: new Uint8Array(blocks) }
}

/** Chooses the parameters of the block values[range]; `rounded` are those that cover it. */
type Refine = (values: Float32Array, range: readonly [number, number], rounded: BlockParams, format: BlockFormat) => BlockParams

/** Each of [rows, width] weights to its nearest code, with the parameters that cover its block or that `refine` makes of them. */
export function roundToNearest(
  values: Float32Array,
  { rows, width, format, refine }: { rows: number; width: number; format: BlockFormat; refine?: Refine | undefined },
): BlockCodes {
  const made = emptyCodes(rows, width, format)
  const blocks = blocksOf(width, format)
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * width + block * format.block
      const to = Math.min(from + format.block, (row + 1) * width)
      const rounded = blockParams(values, from, to, format)
      const params = refine?.(values, [from, to], rounded, format) ?? rounded
      made.scales[row * blocks + block] = params.scale
      made.zeros[row * blocks + block] = params.zero
      for (let i = from; i < to; i++) made.codes[i] = codeOf(values[i]!, params, format.bits)
    }
  }
  return made
}

export interface PackedBlocks {
  data: Uint8Array<ArrayBuffer>
  /** [rows, zeroBytesPerRow]; absent where every zero is the middle code, which readers assume. */
  zeros?: Uint8Array<ArrayBuffer>
  zeroBytesPerRow: number
}

/** Packs codes, the first of a byte in its low bits. `padded`: rows are filled up to whole blocks, as products want them. */
export function packBlocks({ rows, width, codes, zeros }: BlockCodes, format: BlockFormat, padded: boolean): PackedBlocks {
  const { bits, block, symmetric } = format
  const blocks = blocksOf(width, format)
  const data = packRows(codes, { rows, width, bits, bytes: ((padded ? blocks * block : width) * bits) / 8 })
  const zeroBytesPerRow = Math.ceil((blocks * bits) / 8)
  return { data, zeroBytesPerRow, ...(symmetric ? {} : { zeros: packRows(zeros, { rows, width: blocks, bits, bytes: zeroBytesPerRow }) }) }
}

/** Rows of `width` codes as rows of `bytes` bytes. */
function packRows(codes: Uint8Array, { rows, width, bits, bytes }: { rows: number; width: number; bits: number; bytes: number }): Uint8Array<ArrayBuffer> {
  const packed = new Uint8Array(rows * bytes)
  for (let row = 0; row < rows; row++) {
    if (bits === 8) packed.set(codes.subarray(row * width, (row + 1) * width), row * bytes)
    else for (let i = 0; i < width; i++) packed[row * bytes + (i >> 1)]! |= codes[row * width + i]! << (i % 2 === 0 ? 0 : 4)
  }
  return packed
}
