import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { float16From, float32FromFloat16, fromFloat16Bits, toFloat16Bits } from '#flyweight/tensor/float16.js'

// Independent references. Decoding: the half's fields are re-biased into a float32 pattern and read back by a
// DataView. Encoding: a binary search over the ordered list of all finite halves, ties to the even pattern.
const view = new DataView(new ArrayBuffer(4))
function decode(bits: number): number {
  const sign = (bits & 0x8000) << 16
  let exponent = (bits & 0x7c00) >> 10
  let fraction = bits & 0x03ff
  if (exponent === 31) exponent = 255 - 112
  else if (exponent === 0) {
    if (fraction === 0) exponent = -112
    else {
      exponent = 1
      while ((fraction & 0x400) === 0) {
        fraction <<= 1
        exponent--
      }
      fraction &= 0x3ff
    }
  }
  view.setUint32(0, (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0)
  return view.getFloat32(0)
}
const magnitudes = Array.from({ length: 0x7c00 }, (_, bits) => decode(bits))
function encode(value: number): number {
  const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0
  const magnitude = Math.abs(value)
  if (magnitude >= 65520) return sign | 0x7c00
  let low = 0
  let high = 0x7bff
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((magnitudes[middle] as number) <= magnitude) low = middle
    else high = middle - 1
  }
  const below = magnitude - (magnitudes[low] as number)
  const above = (low === 0x7bff ? 65536 : (magnitudes[low + 1] as number)) - magnitude
  return sign | (below < above || (below === above && low % 2 === 0) ? low : low + 1)
}

describe('half floats', () => {
  it('decodes all 65536 patterns as the reference does', () => {
    const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i)
    const values = float32FromFloat16(patterns)
    for (let bits = 0; bits < 65536; bits++) {
      if (!Object.is(values[bits], decode(bits))) expect(values[bits], `pattern ${bits}`).toBe(decode(bits))
      if (!Object.is(fromFloat16Bits(bits), decode(bits))) expect(fromFloat16Bits(bits), `pattern ${bits}`).toBe(decode(bits))
    }
  })

  it('encodes every value of a pattern back to that pattern', () => {
    const values = Float32Array.from({ length: 65536 }, (_, bits) => decode(bits))
    const patterns = float16From(values)
    for (let bits = 0; bits < 65536; bits++) {
      const nan = Number.isNaN(values[bits])
      const got = patterns[bits] as number
      if (nan ? !Number.isNaN(decode(got)) : got !== bits) expect(got, `pattern ${bits}`).toBe(bits)
      if (!nan && toFloat16Bits(values[bits] as number) !== bits) expect(toFloat16Bits(values[bits] as number)).toBe(bits)
    }
  })

  it('rounds every midpoint between neighbours to even, and what lies just beside it to the nearer one', () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const middle = ((magnitudes[bits] as number) + (magnitudes[bits + 1] as number)) / 2
      for (const value of [middle, middle * (1 + 2 ** -40), middle * (1 - 2 ** -40), -middle]) {
        const got = toFloat16Bits(value)
        if (got !== encode(value)) expect(got, `value ${value}`).toBe(encode(value))
      }
      const [single] = float16From(Float32Array.of(middle))
      if (single !== encode(middle)) expect(single, `value ${middle}`).toBe(encode(middle))
    }
  })

  it('encodes any float32 and any double as the reference does', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (value) => float16From(Float32Array.of(value))[0] === encode(value)),
      { numRuns: 2000, seed: 1 },
    )
    fc.assert(
      fc.property(fc.double({ noNaN: true, min: -70000, max: 70000 }), (value) => toFloat16Bits(value) === encode(value)),
      { numRuns: 2000, seed: 2 },
    )
  })

  it('overflows to infinity only past the last midpoint, and keeps signs of zero', () => {
    expect(toFloat16Bits(65519.99)).toBe(0x7bff)
    expect(toFloat16Bits(65520)).toBe(0x7c00)
    expect(toFloat16Bits(-Infinity)).toBe(0xfc00)
    expect(toFloat16Bits(-0)).toBe(0x8000)
    expect(toFloat16Bits(2 ** -25)).toBe(0)
    expect(toFloat16Bits(2 ** -25 * 1.0001)).toBe(1)
    expect(fromFloat16Bits(toFloat16Bits(NaN))).toBeNaN()
  })

  it('works on a view that starts inside its buffer', () => {
    const values = Float32Array.of(9, 1.5, -2).subarray(1)
    expect([...float16From(values)]).toEqual([0x3e00, 0xc000])
  })
})
