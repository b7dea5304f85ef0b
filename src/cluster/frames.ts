// Messages as bytes: a JSON header, then the arrays of the message as they lie in memory. Knows nothing of what messages
// mean, except which vectors may travel as halves. How frames get to the other side is redis-ranks.ts's business.
//
//   4 bytes "FWM1" | 4 bytes length of the header, little-endian | header | padding to 8 | arrays, each padded to 8
//
// The header is {message, arrays, numbers}: the message with null in place of arrays and of numbers that JSON lacks.
import { FlyweightError, messageOf } from '../errors.js'
import { float16From, float32FromFloat16 } from '../tensor/float16.js'

const ARRAYS = { Float32Array, Float64Array, Uint8Array, Int8Array, Uint16Array, Int16Array, Uint32Array, Int32Array, BigInt64Array, BigUint64Array }

type ArrayName = keyof typeof ARRAYS
type AnyArray = InstanceType<(typeof ARRAYS)[ArrayName]>
type Path = readonly (string | number)[]

interface ArrayEntry {
  path: Path
  type: ArrayName
  /** Elements. */
  count: number
  /** Present where a Float32Array travels as halves: the power of two that they were multiplied by. */
  half?: number
}

interface Header {
  message: unknown
  arrays: ArrayEntry[]
  numbers: { path: Path; value: string }[]
}

export interface FrameOptions {
  /** Whether Float32Arrays under the key `vector` travel as halves: half the bytes, 11 bits of precision. */
  half?: boolean
}

const MAGIC = Buffer.from('FWM1')
const HEADER_AT = 8
const ALIGNMENT = 8
/** Exponent that the largest value of a vector of halves gets: near the top of their range, with room for rounding. */
const TOP_EXPONENT = 14

/**
 * Bytes of a message of plain objects, arrays, strings, numbers, booleans and typed arrays. A property that is undefined
 * is left out.
 */
export function encodeFrame(message: object, { half = false }: FrameOptions = {}): Buffer {
  const header: Header = { message: undefined, arrays: [], numbers: [] }
  const bodies: Uint8Array[] = []
  const strip = (value: unknown, path: Path): unknown => {
    if (ArrayBuffer.isView(value)) {
      const { entry, body } = encodeArray(value as AnyArray, half && path.at(-1) === 'vector')
      header.arrays.push({ path, ...entry })
      bodies.push(body)
      return null
    }
    if (typeof value === 'number' && !Number.isFinite(value)) {
      header.numbers.push({ path, value: String(value) })
      return null
    }
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) return value.map((one, index) => strip(one, [...path, index]))
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, strip(one, [...path, key])]))
  }
  header.message = strip(message, [])
  const text = Buffer.from(JSON.stringify(header))
  const sizes = bodies.map(({ length }) => aligned(length))
  const bytes = Buffer.alloc(sizes.reduce((sum, size) => sum + size, aligned(HEADER_AT + text.length)))
  bytes.set(MAGIC)
  bytes.writeUInt32LE(text.length, 4)
  bytes.set(text, HEADER_AT)
  let at = aligned(HEADER_AT + text.length)
  for (const [index, body] of bodies.entries()) {
    bytes.set(body, at)
    at += sizes[index] as number
  }
  return bytes
}

/**
 * The message of a frame; each of its arrays has a buffer of its own, so that it can be handed on.
 * @throws FlyweightError `malformed` for bytes that are no whole frame
 */
export function decodeFrame(bytes: Uint8Array): unknown {
  const { message, arrays, numbers } = headerOf(bytes)
  const root = { message }
  let at = aligned(HEADER_AT + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).readUInt32LE(4))
  for (const entry of arrays) {
    const size = bytesOf(entry)
    if (at + size > bytes.length) throw damaged(`it ends at ${bytes.length} of at least ${at + size} bytes`)
    // Not slice(): a Buffer's shares memory.
    place(root, entry.path, decodeArray(entry, new Uint8Array(bytes.subarray(at, at + size))))
    at += aligned(size)
  }
  if (at !== bytes.length) throw damaged(`got ${bytes.length} bytes, expected ${at}`)
  for (const { path, value } of numbers) place(root, path, Number(value))
  return root.message
}

/** A vector as the other side gets it. */
export function asOverTheWire(vector: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const { entry, body } = encodeArray(vector, true)
  return decodeArray({ path: [], ...entry }, body) as Float32Array<ArrayBuffer>
}

function encodeArray(value: AnyArray, half: boolean): { entry: Omit<ArrayEntry, 'path'>; body: Uint8Array } {
  // Buffers are bytes like others.
  const type = (value instanceof Uint8Array ? 'Uint8Array' : value.constructor.name) as ArrayName
  if (!Object.hasOwn(ARRAYS, type)) throw new TypeError(`a message cannot hold a ${type}`)
  if (!half || !(value instanceof Float32Array)) return { entry: { type, count: value.length }, body: viewOf(value) }
  const scale = scaleOf(value)
  return { entry: { type, count: value.length, half: scale }, body: viewOf(float16From(scale === 1 ? value : value.map((one) => one * scale))) }
}

function decodeArray({ type, half }: ArrayEntry, body: Uint8Array): AnyArray {
  if (half !== undefined) return float32FromFloat16(new Uint16Array(body.buffer as ArrayBuffer)).map((one) => one / half)
  return new ARRAYS[type](body.buffer as ArrayBuffer)
}

/** The power of two that brings the largest finite value to the top of the halves' range, so that small ones keep their bits. */
function scaleOf(values: Float32Array): number {
  let largest = 0
  for (const value of values) {
    const magnitude = Math.abs(value)
    if (magnitude > largest && magnitude < Infinity) largest = magnitude
  }
  return largest === 0 ? 1 : 2 ** (TOP_EXPONENT - Math.floor(Math.log2(largest)))
}

function headerOf(bytes: Uint8Array): Header {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (view.length < HEADER_AT || !view.subarray(0, 4).equals(MAGIC)) {
    throw damaged(`it begins with ${JSON.stringify(view.subarray(0, 4).toString('latin1'))}, expected "${MAGIC.toString()}"`)
  }
  const end = HEADER_AT + view.readUInt32LE(4)
  if (end > view.length) throw damaged(`it ends at ${view.length} bytes, within its header of ${end}`)
  let header: Partial<Header> | null
  try {
    header = JSON.parse(view.toString('utf8', HEADER_AT, end)) as Partial<Header> | null
  } catch (cause) {
    throw damaged(`its header is not JSON: ${messageOf(cause)}`)
  }
  const { message, arrays, numbers } = header ?? {}
  if (message === undefined || !Array.isArray(arrays) || !Array.isArray(numbers)) throw damaged('its header has no message')
  return { message, arrays, numbers }
}

function bytesOf({ type, count, half }: ArrayEntry): number {
  if (!Object.hasOwn(ARRAYS, type) || !Number.isSafeInteger(count) || count < 0) throw damaged(`it has an array of ${count} ${type}`)
  return count * (half === undefined ? ARRAYS[type].BYTES_PER_ELEMENT : Uint16Array.BYTES_PER_ELEMENT)
}

/** Puts a value where the header's message has null. */
function place(root: { message: unknown }, path: Path, value: unknown): void {
  let [holder, key]: [unknown, string | number] = [root, 'message']
  for (const next of path) [holder, key] = [(holder as Record<string, unknown>)[key], next]
  if (typeof holder !== 'object' || holder === null || !Object.hasOwn(holder, key)) throw damaged(`it has no place /${path.join('/')}`)
  ;(holder as Record<string, unknown>)[key] = value
}

function viewOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function aligned(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT
}

function damaged(detail: string): FlyweightError {
  return new FlyweightError('malformed', `a message between machines is damaged: ${detail}`)
}
