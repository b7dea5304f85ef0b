// JSON values → elements of a typed array, checked one by one: the kind of value, whole numbers, range.
// Non-finite floats have no JSON number, so they are the strings "NaN", "Infinity" and "-Infinity";
// 64-bit integers may be numbers or decimal strings. Knows nothing of shapes or names.
import { toFloat16Bits } from '../tensor/float16.js'
import type { DType, TensorData } from '../tensor/tensor.js'
import { describe } from './describe.js'
import { inputError } from './signature.js'

/** Thrown for an integer that JSON.parse may have rounded: the caller reads the body's text again, losslessly. */
export const unsafeInteger = new Error('an integer beyond 2^53 came through JSON.parse')

/** Half a step beyond the largest finite value: from here on rounding gives infinity. */
const FLOAT_LIMITS: Partial<Record<DType, number>> = { float32: 2 ** 128 - 2 ** 103, float16: 65520, bfloat16: 2 ** 128 - 2 ** 119, float64: Infinity }
const INTEGER_RANGES: Partial<Record<DType, readonly [number, number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65535],
  int16: [-32768, 32767],
  uint32: [0, 4294967295],
  int32: [-2147483648, 2147483647],
}
const WIDE_RANGES: Partial<Record<DType, readonly [bigint, bigint]>> = {
  int64: [-(2n ** 63n), 2n ** 63n - 1n],
  uint64: [0n, 2n ** 64n - 1n],
}

/**
 * Writes `values` into `target` from `offset` on.
 * @param pointer where `values` stands in the request; errors add the index
 * @throws FlyweightError `invalid_input`; `unsafeInteger` for a number beyond 2^53 in a 64-bit integer tensor
 */
export function fillElements(dtype: DType, values: readonly unknown[], into: { target: TensorData; offset: number }, pointer: string): void {
  const { target, offset } = into
  switch (dtype) {
    case 'float32':
    case 'float64':
      fillFloats(dtype, values, { target: target as Float32Array, offset }, pointer)
      break
    case 'float16':
      for (let i = 0; i < values.length; i++) target[offset + i] = toFloat16Bits(floatOf(dtype, values[i], pointer, i))
      break
    case 'bfloat16':
      for (let i = 0; i < values.length; i++) target[offset + i] = toBfloat16Bits(floatOf(dtype, values[i], pointer, i))
      break
    case 'int64':
    case 'uint64':
      for (let i = 0; i < values.length; i++) target[offset + i] = wideOf(dtype, values[i], pointer, i)
      break
    case 'bool':
      for (let i = 0; i < values.length; i++) target[offset + i] = boolOf(values[i], pointer, i)
      break
    case 'string':
      for (let i = 0; i < values.length; i++) target[offset + i] = stringOf(values[i], pointer, i)
      break
    case 'uint8':
    case 'int8':
    case 'uint16':
    case 'int16':
    case 'uint32':
    case 'int32':
      fillIntegers(dtype, values, { target: target as Int32Array, offset }, pointer)
      break
  }
}

/** Value of a bfloat16 pattern, exact: it is the upper half of a float32. */
export function fromBfloat16Bits(bits: number): number {
  scratchWord[0] = bits << 16
  return scratchFloat[0] as number
}

const scratchFloat = new Float32Array(1)
const scratchWord = new Uint32Array(scratchFloat.buffer)

/** Nearest bfloat16, ties to even; by way of float32. */
function toBfloat16Bits(value: number): number {
  scratchFloat[0] = value
  const word = scratchWord[0] as number
  if (Number.isNaN(value)) return 0x7fc0
  return (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
}

// The two loops that image-sized inputs spend their time in: no calls for ordinary values.
function fillFloats(
  dtype: 'float32' | 'float64',
  values: readonly unknown[],
  { target, offset }: { target: Float32Array; offset: number },
  pointer: string,
): void {
  const limit = FLOAT_LIMITS[dtype] as number
  for (let i = 0; i < values.length; i++) {
    const value = values[i]
    target[offset + i] = typeof value === 'number' && value < limit && value > -limit ? value : floatOf(dtype, value, pointer, i)
  }
}

function fillIntegers(dtype: DType, values: readonly unknown[], { target, offset }: { target: Int32Array; offset: number }, pointer: string): void {
  const [low, high] = INTEGER_RANGES[dtype] as readonly [number, number]
  for (let i = 0; i < values.length; i++) {
    const value = values[i]
    if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high)
      throw elementError(dtype, value, pointer, i, `a whole number from ${low} to ${high}`)
    target[offset + i] = value
  }
}

function floatOf(dtype: DType, value: unknown, pointer: string, index: number): number {
  const limit = FLOAT_LIMITS[dtype] as number
  if (typeof value === 'number') {
    if (value < limit && value > -limit) return value
    throw elementError(dtype, value, pointer, index, 'a number in range')
  }
  if (value === 'NaN') return NaN
  if (value === 'Infinity') return Infinity
  if (value === '-Infinity') return -Infinity
  throw elementError(dtype, value, pointer, index, 'a number, "NaN", "Infinity" or "-Infinity"')
}

function wideOf(dtype: 'int64' | 'uint64', value: unknown, pointer: string, index: number): bigint {
  const [low, high] = WIDE_RANGES[dtype] as readonly [bigint, bigint]
  let wide: bigint | undefined
  if (typeof value === 'number' && Number.isInteger(value)) {
    if (!Number.isSafeInteger(value)) throw unsafeInteger
    wide = BigInt(value)
  } else if (typeof value === 'string' && /^-?\d{1,20}$/.test(value)) wide = BigInt(value)
  if (wide === undefined || wide < low || wide > high)
    throw elementError(dtype, value, pointer, index, `a whole number (or its decimal string) from ${low} to ${high}`)
  return wide
}

function boolOf(value: unknown, pointer: string, index: number): number {
  if (value === true || value === 1) return 1
  if (value === false || value === 0) return 0
  throw elementError('bool', value, pointer, index, 'true or false')
}

function stringOf(value: unknown, pointer: string, index: number): string {
  const fault = typeof value === 'string' ? stringFault(value) : undefined
  if (typeof value === 'string' && fault === undefined) return value
  throw elementError('string', value, pointer, index, fault ?? 'a string')
}

/** What a string must be for the runtime to keep it whole: it works on zero-terminated UTF-8. */
function stringFault(text: string): string | undefined {
  if (text.includes('\0')) return 'a string without U+0000, at which the runtime would cut it'
  return /\p{Surrogate}/u.test(text) ? 'a string of whole characters, without halves of surrogate pairs' : undefined
}

function elementError(dtype: DType, value: unknown, pointer: string, index: number, expected: string): Error {
  return inputError(`${pointer}/${index}`, `is ${describe(value)}, expected ${expected} (${dtype})`)
}
