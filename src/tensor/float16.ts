// IEEE 754 binary16 ↔ number, by value: conversion of weights, inputs and outputs. Half floats are
// kept as their 16-bit patterns everywhere (Node 20 has no Float16Array, and the runtime wants Uint16Array).

// Adding and taking away 2^52 rounds a small non-negative double to an integer, ties to even.
const ROUND = 2 ** 52
const MIN_EXPONENT = -14
const SIGN = 0x8000
const INFINITE = 0x7c00
const NOT_A_NUMBER = 0x7e00

const scratch = new Float64Array(1)
const scratchWords = new Uint32Array(scratch.buffer)

/** Pattern of the nearest half to `value`: ties to even, subnormals kept, beyond 65504 + half a step infinite, NaN quiet. */
export function toFloat16Bits(value: number): number {
  scratch[0] = value
  const high = scratchWords[1] as number
  return patternOf(Math.abs(value), ((high >>> 20) & 0x7ff) - 1023, high >>> 31)
}

/** Value of a half's pattern, exact. */
export function fromFloat16Bits(bits: number): number {
  const fraction = bits & 0x3ff
  const exponent = (bits >>> 10) & 0x1f
  const sign = bits & SIGN ? -1 : 1
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (fraction + 1024) * (STEPS[exponent] as number))
}

/** Patterns of the nearest halves, rounded as `toFloat16Bits` does. */
export function float16From(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const patterns = new Uint16Array(values.length)
  for (let i = 0; i < values.length; i++) {
    const word = words[i] as number
    patterns[i] = patternOf(Math.abs(values[i] as number), ((word >>> 23) & 0xff) - 127, word >>> 31)
  }
  return patterns
}

/** Values of the patterns, exact. */
export function float32FromFloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const values = new Float32Array(bits.length)
  for (let i = 0; i < bits.length; i++) values[i] = fromFloat16Bits(bits[i] as number)
  return values
}

// STEPS[e] is the distance between neighbouring halves of biased exponent e, SCALES its inverse.
const STEPS = Float64Array.from({ length: 31 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25))
const SCALES = STEPS.map((step) => 1 / step)

function patternOf(magnitude: number, binaryExponent: number, sign: number): number {
  const signBit = sign << 15
  if (!(magnitude < 65520)) return signBit | (magnitude >= 65520 ? INFINITE : NOT_A_NUMBER)
  const exponent = Math.max(binaryExponent, MIN_EXPONENT)
  const steps = magnitude * (SCALES[exponent + 15] as number) + ROUND - ROUND
  // A normal's step count has the hidden bit (1024) in it, so it carries one into the exponent field by itself.
  return signBit | (((exponent + 14) << 10) + steps)
}
