// JSON bodies → tensors. An input is a nested array, or an object of shape and flat, nested or base64
// data. JSON.parse gives doubles, which corrupt 64-bit integers beyond 2^53: when an int64 input holds
// one, the text is parsed a second time with long integers quoted, and only that input is read from it.
import { isUtf8 } from 'node:buffer'
import { FlyweightError, messageOf } from '../errors.js'
import { allocate, dtypes, elementCount, type Tensor, type TensorSpec } from '../tensor/tensor.js'
import { describe, shapeText } from './describe.js'
import { readRaw } from './binary.js'
import { fillElements, unsafeInteger } from './elements.js'
import { checkShape, inputError } from './signature.js'

export interface JsonBody {
  value: unknown
  /** Bytes of the text; no tensor can have more elements, for each takes at least one. */
  bytes: number
  /** The same document with every integer of 16 or more digits as a string; parsed on first use. */
  lossless(): unknown
}

/** @throws FlyweightError `malformed` when the bytes are not UTF-8 or not JSON. */
export function parseJson(bytes: Uint8Array): JsonBody {
  if (!isUtf8(bytes)) throw new FlyweightError('malformed', 'the body is not valid UTF-8, expected JSON')
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  let lossless: { value: unknown } | undefined
  return {
    value: parseText(text),
    bytes: bytes.byteLength,
    lossless: () => (lossless ??= { value: parseText(quoteLongIntegers(text)) }).value,
  }
}

function parseText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    throw new FlyweightError('malformed', text.trim() === '' ? 'the body is empty, expected JSON' : `the body is not valid JSON: ${messageOf(cause)}`, {
      cause,
    })
  }
}

/** Strings are matched first, so that digits inside them stay as they are. */
function quoteLongIntegers(text: string): string {
  return text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/gs, (token) => (token.startsWith('"') ? token : `"${token}"`))
}

interface JsonSource {
  body: JsonBody
  /** Finds the same value in the lossless document. */
  pick: (document: unknown) => unknown
}

/**
 * Reads a JSON array of elements, flat or nested as `dims` says.
 * @param pointer where `data` stands in the request
 */
export function readArray(spec: TensorSpec, dims: readonly number[], data: readonly unknown[], source: JsonSource & { pointer: string }): Tensor {
  const count = elementCount(dims)
  if (count > source.body.bytes) throw inputError(source.pointer, `has fewer elements than its shape ${shapeText(dims)} holds`)
  try {
    return { dtype: spec.dtype, dims, data: filled(spec, dims, data, source.pointer) }
  } catch (error) {
    if (error !== unsafeInteger) throw error
    return { dtype: spec.dtype, dims, data: filledLosslessly(spec, dims, source.pick(source.body.lossless()) as unknown[], source.pointer) }
  }
}

function filledLosslessly(spec: TensorSpec, dims: readonly number[], data: readonly unknown[], pointer: string): Tensor['data'] {
  try {
    return filled(spec, dims, data, pointer)
  } catch (error) {
    if (error === unsafeInteger) throw inputError(pointer, 'has a number beyond 2^53 with a fraction or an exponent, expected plain digits')
    throw error
  }
}

function filled({ dtype }: TensorSpec, dims: readonly number[], data: readonly unknown[], pointer: string): Tensor['data'] {
  const count = elementCount(dims)
  if (!Array.isArray(data[0]) && data.length !== count) {
    throw inputError(pointer, `has ${data.length} elements, expected ${count} for shape ${shapeText(dims)}`)
  }
  const target = allocate(dtype, count)
  let offset = 0
  const walk = (values: readonly unknown[], axis: number, at: string): void => {
    if (axis === dims.length - 1) {
      fillElements(dtype, values, { target, offset }, at)
      offset += values.length
      return
    }
    for (const [index, row] of values.entries()) {
      const expected = dims[axis + 1] as number
      if (!Array.isArray(row) || row.length !== expected) throw inputError(`${at}/${index}`, `is ${describe(row)}, expected an array of ${expected}`)
      walk(row, axis + 1, `${at}/${index}`)
    }
  }
  if (!Array.isArray(data[0])) fillElements(dtype, data, { target, offset }, pointer)
  else if (data.length === dims[0]) walk(data, 0, pointer)
  else throw inputError(pointer, `is an array of ${data.length}, expected ${describeCount(dims)}`)
  return target
}

function describeCount(dims: readonly number[]): string {
  return dims.length === 0 ? 'one element' : `${dims[0]} for shape ${shapeText(dims)}`
}

const INPUT_FIELDS = ['shape', 'dtype', 'data']

/**
 * One input of `POST /infer`: a nested array (or a bare value for a scalar), or `{shape, dtype?, data}`.
 * @throws FlyweightError `invalid_input` saying what came and what was expected; `unknown_field`
 */
export function readJsonInput(spec: TensorSpec, value: unknown, source: { body: JsonBody; key: string; pointer: string }): Tensor {
  const { body, key, pointer } = source
  const picked = (document: unknown): unknown => (document as { inputs: Record<string, unknown> }).inputs[key]
  if (typeof value !== 'object' || value === null) {
    if (spec.dims.length > 0) throw inputError(pointer, `is ${describe(value)}, expected an array of shape ${shapeText(spec.dims)} or {shape, data}`)
    return readArray(spec, [], [value], { body, pointer, pick: (document) => [picked(document)] })
  }
  if (Array.isArray(value)) return readArray(spec, checkShape(spec, nestedShape(value, spec), pointer), value, { body, pointer, pick: picked })

  const { shape, dtype, data } = value as Record<string, unknown>
  const unknown = Object.keys(value).filter((field) => !INPUT_FIELDS.includes(field))
  if (unknown.length > 0) {
    const errors = unknown.map((field) => ({ pointer: `${pointer}/${field}`, detail: `is not a field here, expected ${INPUT_FIELDS.join(', ')}` }))
    throw new FlyweightError('unknown_field', errors.map((error) => `${error.pointer} ${error.detail}`).join('; '), { errors })
  }
  if (dtype !== undefined && dtype !== spec.dtype) throw inputError(`${pointer}/dtype`, `is ${describe(dtype)}, expected "${spec.dtype}"`)
  const dims = checkShape(spec, shape, `${pointer}/shape`)
  if (typeof data === 'string') return readBase64(spec, dims, data, `${pointer}/data`)
  if (Array.isArray(data)) {
    return readArray(spec, dims, data, { body, pointer: `${pointer}/data`, pick: (document) => (picked(document) as { data: unknown }).data })
  }
  throw inputError(`${pointer}/data`, `is ${describe(data)}, expected an array or base64`)
}

/** Shape of a nested array by its first elements; one level deeper than the model's rank is enough to see that it does not fit. */
function nestedShape(value: readonly unknown[], { dims }: TensorSpec): number[] {
  const shape: number[] = []
  for (let level: unknown = value; Array.isArray(level) && shape.length <= dims.length; level = level[0]) shape.push(level.length)
  return shape
}

/** Base64 (RFC 4648, with or without padding) of little-endian elements; strings as in v2's BYTES: u32 length and bytes each. */
function readBase64(spec: TensorSpec, dims: readonly number[], text: string, pointer: string): Tensor {
  const bytes = Buffer.from(text, 'base64')
  // Node skips characters that are not base64: then fewer bytes come out than the text is long.
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  if (bytes.byteLength !== Math.floor(((text.length - padding) * 3) / 4)) throw inputError(pointer, 'is not valid base64')
  const expected = elementCount(dims) * dtypes[spec.dtype].bytes
  if (spec.dtype !== 'string' && bytes.byteLength !== expected) {
    throw inputError(pointer, `holds ${bytes.byteLength} bytes, expected ${expected} for ${spec.dtype} ${shapeText(dims)}`)
  }
  return readRaw(spec, dims, bytes, pointer)
}
