// Frames: whatever goes in comes out, and what is no frame is named.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { asOverTheWire, decodeFrame, encodeFrame } from '#flyweight/cluster/frames.js'

const number = fc.oneof(fc.integer(), fc.constantFrom(NaN, Infinity, -Infinity, 0.1, 1e-300))
const array = fc.oneof(
  fc.float32Array(),
  fc.float64Array(),
  fc.uint8Array(),
  fc.int8Array(),
  fc.uint16Array(),
  fc.int16Array(),
  fc.uint32Array(),
  fc.int32Array(),
  fc.bigInt64Array(),
  fc.bigUint64Array(),
)
/** Keys that a model's tensors may have, `__proto__` and numbers among them. */
const key = fc.oneof(fc.string(), fc.constantFrom('vector', '__proto__', 'constructor', 'length', '0', 'message', ''))
const message = fc.dictionary(
  key,
  fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.string(),
      number,
      fc.boolean(),
      fc.constant(null),
      array,
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(key, tie('value'), { maxKeys: 4, noNullPrototype: true }),
    ),
  })).value,
  { noNullPrototype: true },
)

describe('a frame', () => {
  it('gives back what was put in, from any place in memory', () => {
    fc.assert(
      fc.property(message, fc.nat(9), (sent, offset) => {
        const frame = encodeFrame(sent)
        const within = Buffer.concat([Buffer.alloc(offset), frame, Buffer.alloc(3)])
        expect(decodeFrame(within.subarray(offset, offset + frame.length))).toEqual(sent)
      }),
      { seed: 1, numRuns: 300 },
    )
  })

  it('has arrays aligned to 8 bytes, and gives each a buffer of its own', () => {
    const frame = encodeFrame({ a: Uint8Array.of(1, 2, 3), b: Float32Array.of(0.5), c: BigInt64Array.of(7n) })
    expect(frame.length % 8).toBe(0)
    const { a, b, c } = decodeFrame(frame) as { a: Uint8Array; b: Float32Array; c: BigInt64Array }
    expect([a, b, c].map(({ buffer }) => buffer.byteLength)).toEqual([3, 4, 8])
    expect(frame.indexOf(Uint8Array.of(1, 2, 3)) % 8).toBe(0)
  })

  it('takes Buffers and views into larger ones', () => {
    expect(decodeFrame(encodeFrame({ bytes: Buffer.from('abc'), part: new Float32Array([1, 2, 3, 4]).subarray(1, 3) }))).toEqual({
      bytes: new Uint8Array(Buffer.from('abc')),
      part: Float32Array.of(2, 3),
    })
  })

  it('takes every message of its bytes only', () => {
    const frame = encodeFrame({ kind: 'bucket', vector: Float32Array.of(1, 2, 3), rate: NaN })
    fc.assert(
      fc.property(fc.nat(frame.length - 1), (length) => {
        expect(() => decodeFrame(frame.subarray(0, length))).toThrow('a message between machines is damaged')
      }),
    )
    expect(() => decodeFrame(Buffer.concat([frame, Buffer.alloc(8)]))).toThrow(`got ${frame.length + 8} bytes, expected ${frame.length}`)
  })

  it.each([
    ['HTTP/1.1 200 OK', 'it begins with "HTTP", expected "FWM1"'],
    [frameOf('{'), 'its header is not JSON'],
    [frameOf('null'), 'its header has no message'],
    [frameOf('{"message": {}, "arrays": [{"path": ["a"], "type": "Function", "count": 0}], "numbers": []}'), 'it has an array of 0 Function'],
    [frameOf('{"message": {}, "arrays": [{"path": ["a"], "type": "Int8Array", "count": -1}], "numbers": []}'), 'it has an array of -1 Int8Array'],
    [frameOf('{"message": {}, "arrays": [{"path": ["a", "b"], "type": "Int8Array", "count": 0}], "numbers": []}'), 'it has no place /a/b'],
    [frameOf('{"message": {}, "arrays": [{"path": ["__proto__"], "type": "Int8Array", "count": 0}], "numbers": []}'), 'it has no place /__proto__'],
  ])('that is damaged says how: %s', (bytes, told) => {
    expect(() => decodeFrame(Buffer.from(bytes))).toThrow(told)
  })
})

function frameOf(header: string): Buffer {
  const bytes = Buffer.alloc(Math.ceil((8 + header.length) / 8) * 8)
  bytes.write('FWM1')
  bytes.writeUInt32LE(header.length, 4)
  bytes.write(header, 8)
  return bytes
}

describe('halves', () => {
  const vectors = fc.float32Array({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e30), max: Math.fround(1e30), minLength: 1 })

  it('are right to 11 bits of the largest value, however large or small that is', () => {
    fc.assert(
      fc.property(vectors, (vector) => {
        const { vector: got } = decodeFrame(encodeFrame({ vector }, { half: true })) as { vector: Float32Array }
        const largest = vector.reduce((most, one) => Math.max(most, Math.abs(one)), 0)
        expect(got).toHaveLength(vector.length)
        for (const [at, value] of vector.entries()) {
          expect(Math.abs((got[at] as number) - value)).toBeLessThanOrEqual(Math.max(Math.abs(value) * 2 ** -11, largest * 2 ** -38, 2 ** -149))
        }
      }),
      { seed: 2, numRuns: 300 },
    )
  })

  it('take half the bytes, and only where they are asked for', () => {
    const vector = Float32Array.from({ length: 1000 }, (_, at) => Math.sin(at))
    const [whole, half, other] = [encodeFrame({ vector }), encodeFrame({ vector }, { half: true }), encodeFrame({ state: vector }, { half: true })]
    expect(whole.length - half.length).toBeGreaterThan(1900)
    expect(decodeFrame(whole)).toEqual({ vector })
    expect(decodeFrame(other)).toEqual({ state: vector })
  })

  it('keep infinities and what is no number, beside values that do not suffer from them', () => {
    const { vector } = decodeFrame(encodeFrame({ vector: Float32Array.of(Infinity, NaN, 2 ** -20, -Infinity) }, { half: true })) as { vector: Float32Array }
    expect([...vector]).toEqual([Infinity, NaN, 2 ** -20, -Infinity])
  })

  it('are known to the sender, too', () => {
    fc.assert(
      fc.property(vectors, (vector) => {
        expect(asOverTheWire(vector)).toEqual((decodeFrame(encodeFrame({ vector }, { half: true })) as { vector: Float32Array }).vector)
      }),
      { seed: 3 },
    )
  })
})
