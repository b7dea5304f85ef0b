// The numbers of affine quantization, against their definitions.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { quantizeChannels, roundHalfEven, toUint8, uint8Params } from '#flyweight/compress/quantize/affine.js'

const reals = fc.float({ noNaN: true, min: -1000, max: 1000 })
const ranges = fc.tuple(reals, reals).map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }))

describe('roundHalfEven', () => {
  it('goes to the nearest integer, and to the even one of two', () => {
    expect([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4, 2.6, -3].map(roundHalfEven)).toEqual([0, 2, 2, -0, -2, -2, 2, 3, -3])
    fc.assert(
      fc.property(fc.integer({ min: -1_000_000, max: 1_000_000 }), fc.integer({ min: 0, max: 16 }), (whole, sixteenths) => {
        const rounded = roundHalfEven(whole + sixteenths / 16)
        const candidates = [whole, whole + 1]
        const nearest = sixteenths < 8 ? candidates[0] : sixteenths > 8 ? candidates[1] : candidates.find((candidate) => candidate % 2 === 0)
        expect(rounded + 0).toBe(nearest! + 0)
      }),
    )
  })
})

describe('uint8Params', () => {
  it('represents zero exactly', () => {
    fc.assert(
      fc.property(ranges, (range) => {
        const params = uint8Params(range)
        expect(toUint8(Float32Array.of(0), params)[0]).toBe(params.zeroPoint)
        expect(Number.isInteger(params.zeroPoint) && params.zeroPoint >= 0 && params.zeroPoint <= 255 && params.scale > 0).toBe(true)
      }),
    )
  })

  it('reads values of the range back within half a step, and those at its ends within one', () => {
    fc.assert(
      fc.property(ranges, fc.double({ min: 0, max: 1, noNaN: true }), (range, share) => {
        const { scale, zeroPoint } = uint8Params(range)
        const value = Math.fround(range.min + share * (range.max - range.min))
        const [code = 0] = toUint8(Float32Array.of(value), { scale, zeroPoint })
        const [low, high] = [-zeroPoint * scale, (255 - zeroPoint) * scale]
        const error = Math.abs((code - zeroPoint) * scale - value)
        expect(error).toBeLessThanOrEqual((value >= low && value <= high ? 0.5001 : 1) * scale + 1e-30)
      }),
    )
  })

  it.each([
    [
      { min: 0, max: 255 },
      { scale: 1, zeroPoint: 0 },
    ],
    [
      { min: -1, max: 254 },
      { scale: 1, zeroPoint: 1 },
    ],
    [
      { min: 2, max: 5.1 },
      { scale: Math.fround(0.02), zeroPoint: 0 },
    ],
    [
      { min: -5.1, max: -2 },
      { scale: Math.fround(0.02), zeroPoint: 255 },
    ],
    [
      { min: 0, max: 0 },
      { scale: 1, zeroPoint: 0 },
    ],
    [
      { min: 0, max: 1e-40 },
      { scale: 1, zeroPoint: 0 },
    ],
  ])('gives %j', (range, params) => {
    expect(uint8Params(range)).toEqual(params)
  })
})

describe('quantizeChannels', () => {
  const cases = fc
    .record({ dims: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }), axis: fc.nat(), limit: fc.constantFrom(127, 63) })
    .chain(({ dims, axis, limit }) => {
      const count = dims.reduce((product, dim) => product * dim, 1)
      return fc.record({
        dims: fc.constant(dims),
        axis: fc.constant(axis % dims.length),
        limit: fc.constant(limit),
        values: fc.array(reals, { minLength: count, maxLength: count }).map((list) => Float32Array.from(list)),
      })
    })

  it('keeps codes within ±limit and errors within half a step of their channel', () => {
    fc.assert(
      fc.property(cases, ({ dims, axis, limit, values }) => {
        const { codes, scales } = quantizeChannels(values, { dims, axis, limit })
        expect(scales.length).toBe(dims[axis])
        values.forEach((value, i) => {
          const scale = scales[indexAt(i, dims)[axis]!]!
          expect(Math.abs(codes[i]!)).toBeLessThanOrEqual(limit)
          expect(Math.abs(codes[i]! * scale - value)).toBeLessThanOrEqual(0.5001 * scale)
        })
      }),
    )
  })

  it('scales each channel by its own largest weight', () => {
    const { codes, scales } = quantizeChannels(Float32Array.of(1, -127, 0.5, 12.7), { dims: [2, 2], axis: 1, limit: 127 })
    expect([...codes]).toEqual([127, -127, 64, 13])
    expect([...scales]).toEqual([Math.fround(1 / 127), 1])
  })

  it('takes larger scales where asked, and gives channels of zeros a usable one', () => {
    const { scales } = quantizeChannels(Float32Array.of(127, 0, 0), { dims: [3], axis: 0, limit: 127, leastScales: Float32Array.of(2, 0.5, 0) })
    expect([...scales]).toEqual([2, 0.5, 2])
    expect([...quantizeChannels(new Float32Array(2), { dims: [2], axis: 0, limit: 127 }).scales]).toEqual([1, 1])
  })
})

/** Multi-index of the i-th element in row-major order. */
function indexAt(i: number, dims: readonly number[]): number[] {
  const result: number[] = []
  for (const dim of dims.toReversed()) {
    result.unshift(i % dim)
    i = Math.floor(i / dim)
  }
  return result
}
