// Tensors ↔ raw bytes as in v2's binary extension: little-endian, row-major, BOOL one byte, BYTES a u32
// length and the bytes each. Reads are views on the request's body wherever alignment allows.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
import { isUtf8 } from 'node:buffer'
import { FlyweightError } from '../errors.js'
import type { Signature } from '../onnx/summary.js'
import { dtypes, elementCount, viewBytes, type Tensor, type TensorSpec } from '../tensor/tensor.js'
import { shapeText } from './describe.js'
import { inputError } from './signature.js'

export const HEADER_LENGTH = 'inference-header-content-length'

/**
 * Splits a body into its JSON and what follows it.
 * @param headerLength value of the Inference-Header-Content-Length header; absent: the body is all JSON
 * @returns `json` undefined for a raw request (header `0`)
 * @throws FlyweightError `malformed`
 */
export function splitBody(body: Buffer, headerLength: string | undefined): { json: Buffer | undefined; raw: Buffer } {
  if (headerLength === undefined) return { json: body, raw: body.subarray(body.byteLength) }
  const length = /^\d{1,15}$/.test(headerLength) ? Number(headerLength) : -1
  if (length < 0 || length > body.byteLength) {
    const detail = `is ${JSON.stringify(headerLength)}, expected the number of JSON bytes at the body's start, at most ${body.byteLength}`
    throw new FlyweightError('malformed', `Inference-Header-Content-Length ${detail}`, {
      errors: [{ pointer: '/headers/inference-header-content-length', detail }],
    })
  }
  return { json: length === 0 ? undefined : body.subarray(0, length), raw: body.subarray(length) }
}

/**
 * Reads one tensor that fills `bytes` exactly. Its data may be a view on them.
 * @throws FlyweightError `invalid_input`
 */
export function readRaw(spec: TensorSpec, dims: readonly number[], bytes: Uint8Array, pointer: string): Tensor {
  const count = elementCount(dims)
  if (spec.dtype === 'string') return { dtype: 'string', dims, data: readStrings(bytes, count, pointer) }
  const expected = count * dtypes[spec.dtype].bytes
  if (bytes.byteLength !== expected) {
    throw inputError(pointer, `has ${bytes.byteLength} bytes, expected ${expected} for ${spec.dtype} ${shapeText(dims)}`)
  }
  const data = viewBytes(spec.dtype, bytes as Uint8Array<ArrayBuffer>)
  if (spec.dtype === 'bool') {
    const odd = (data as Uint8Array).findIndex((byte) => byte > 1)
    if (odd >= 0) throw inputError(pointer, `has the byte ${data[odd]} at ${odd}, expected 0 or 1 (bool)`)
  }
  return { dtype: spec.dtype, dims, data }
}

function readStrings(bytes: Uint8Array, count: number, pointer: string): string[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (count * 4 > buffer.byteLength) throw inputError(pointer, `has ${buffer.byteLength} bytes, too few for ${count} strings with a 4-byte length each`)
  const strings: string[] = []
  let offset = 0
  for (let i = 0; i < count; i++) {
    const length = offset + 4 <= buffer.byteLength ? buffer.readUInt32LE(offset) : Infinity
    const end = offset + 4 + length
    if (end > buffer.byteLength) throw inputError(pointer, `ends inside string ${i} of ${count}`)
    strings.push(textOf(buffer.subarray(offset + 4, end), i, pointer))
    offset = end
  }
  if (offset !== buffer.byteLength) throw inputError(pointer, `has ${buffer.byteLength - offset} bytes after its ${count} strings`)
  return strings
}

/**
 * One element of a BYTES tensor as the text that the runtime keeps.
 * @param index of the element, for errors
 * @throws FlyweightError `invalid_input` when it is not UTF-8, or holds U+0000
 */
export function textOf(bytes: Uint8Array, index: number, pointer: string): string {
  if (!isUtf8(bytes)) throw inputError(pointer, `has a string (${index}) that is not UTF-8`)
  if (bytes.includes(0)) throw inputError(pointer, `has a string (${index}) with U+0000, at which the runtime would cut it`)
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}

/**
 * Reads a raw request, whose body is the one input of the model and nothing else. At most one dimension may be free:
 * it follows from the size. Where there are more and the model has a batch dimension, the batch is 1.
 * @throws FlyweightError `malformed` when the model does not allow it; `invalid_input` when the size does not fit
 */
export function readRawRequest(signature: Signature, bytes: Uint8Array): Record<string, Tensor> {
  const [spec] = signature.inputs
  if (spec === undefined || signature.inputs.length !== 1) {
    throw new FlyweightError('malformed', `a raw request carries one input, but the model has ${signature.inputs.length}: send a JSON header`)
  }
  const dims = spec.dims.map((dim) => (typeof dim === 'string' || dim < 0 ? -1 : dim))
  if (signature.batchable && dims.filter((dim) => dim < 0).length > 1) dims[0] = 1
  const free = dims.flatMap((dim, axis) => (dim < 0 ? [axis] : []))
  if (free.length > 1)
    throw new FlyweightError('malformed', `a raw request allows one free dimension, but the input is ${shapeText(spec.dims)}: send a JSON header`)
  const [axis] = free
  if (axis !== undefined) {
    const unit = dims.reduce((product, dim) => product * (dim < 0 ? 1 : dim), 1) * dtypes[spec.dtype].bytes
    const size = spec.dtype === 'string' ? 1 : bytes.byteLength / unit
    if (!Number.isInteger(size)) throw inputError('', `has ${bytes.byteLength} bytes, expected a multiple of ${unit} for ${spec.dtype} ${shapeText(spec.dims)}`)
    dims[axis] = size
  }
  return { [spec.name]: readRaw(spec, dims, bytes, '') }
}

/** Bytes of a tensor; a view on its data except for strings. */
export function rawBytes({ data }: Tensor): Buffer {
  if (!Array.isArray(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  return Buffer.concat(
    data.flatMap((text) => {
      const bytes = Buffer.from(text, 'utf8')
      const length = Buffer.alloc(4)
      length.writeUInt32LE(bytes.byteLength)
      return [length, bytes]
    }),
  )
}
