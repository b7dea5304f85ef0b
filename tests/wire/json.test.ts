// JSON tensors: every dtype there and back, 64-bit integers without loss, and errors that say what came.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { parseJson, readArray, readJsonInput } from '#flyweight/wire/json-read.js'
import { jsonArray, jsonBase64 } from '#flyweight/wire/json-write.js'
import { toFloat16Bits } from '#flyweight/tensor/float16.js'
import { dtypes, elementCount, type DType, type Tensor, type TensorSpec } from '#flyweight/tensor/tensor.js'
import { anyTensor, nested, same } from '../http/tensors.js'

const read = (spec: TensorSpec, text: string): Tensor => {
  const body = parseJson(Buffer.from(`{"inputs":{"x":${text}}}`))
  return readJsonInput(spec, (body.value as { inputs: { x: unknown } }).inputs.x, { body, key: 'x', pointer: '/inputs/x' })
}

const refusal = (spec: TensorSpec, text: string): FlyweightError => {
  try {
    read(spec, text)
  } catch (error) {
    if (error instanceof FlyweightError) return error
    throw error
  }
  throw new Error('it was accepted')
}

const spec = (dtype: DType, ...dims: (number | string)[]): TensorSpec => ({ name: 'x', dtype, dims })
const free = (tensor: Tensor): TensorSpec => ({ name: 'x', dtype: tensor.dtype, dims: tensor.dims.map(() => -1) })

describe('JSON tensors', () => {
  it('come back as they were, flat', () => {
    fc.assert(
      fc.property(anyTensor, (tensor) => {
        const text = `{"shape":[${tensor.dims.join(',')}],"dtype":"${tensor.dtype}","data":${jsonArray(tensor)}}`
        return same(read(free(tensor), text), tensor)
      }),
      { seed: 1 },
    )
  })

  it('come back as they were, nested, without saying their shape', () => {
    fc.assert(
      fc.property(
        anyTensor.filter(({ dims }) => !dims.includes(0)),
        (tensor) => same(read(free(tensor), nested(tensor, jsonArray(tensor))), tensor),
      ),
      { seed: 2 },
    )
  })

  it('come back as they were, in base64', () => {
    fc.assert(
      fc.property(anyTensor, fc.boolean(), (tensor, padded) => {
        const text = padded ? jsonBase64(tensor) : jsonBase64(tensor).replaceAll('=', '')
        return same(read(free(tensor), `{"shape":[${tensor.dims.join(',')}],"data":${text}}`), tensor)
      }),
      { seed: 3 },
    )
  })

  it('write nothing that JSON.parse refuses', () => {
    fc.assert(
      fc.property(anyTensor, (tensor) => (JSON.parse(jsonArray(tensor)) as unknown[]).length === elementCount(tensor.dims)),
      { seed: 4 },
    )
  })

  it('read int64 exactly, whatever stands around the digits', () => {
    const text = '{"note":"9007199254740993, \\"12345678901234567\\"","inputs":{"x":[ -9223372036854775808 ,9007199254740993,0,9223372036854775807]}}'
    const body = parseJson(Buffer.from(text))
    const value = (body.value as { inputs: { x: unknown[] } }).inputs.x
    const pick = (document: unknown): unknown => (document as { inputs: { x: unknown } }).inputs.x
    const tensor = readArray(spec('int64', 4), [4], value, { body, pick, pointer: '/inputs/x' })
    expect([...(tensor.data as BigInt64Array)]).toEqual([-(2n ** 63n), 9007199254740993n, 0n, 2n ** 63n - 1n])
    expect((body.lossless() as { note: string }).note).toBe('9007199254740993, "12345678901234567"')
  })

  it('read decimal strings as 64-bit integers', () => {
    expect([...(read(spec('uint64', 2), '["18446744073709551615", 7]').data as BigUint64Array)]).toEqual([2n ** 64n - 1n, 7n])
  })

  it('refuse a 64-bit integer that is out of range or written with an exponent', () => {
    expect(refusal(spec('int64', 1), '[9223372036854775808]').errors[0]?.detail).toMatch(/from -9223372036854775808 to 9223372036854775807/)
    expect(refusal(spec('uint64', 1), '[-1]').errors[0]?.pointer).toBe('/inputs/x/0')
    expect(refusal(spec('int64', 1), '[1e19]').errors[0]?.detail).toMatch(/plain digits/)
  })

  it('read long digits in a body of many long strings', () => {
    const long = 'a\\"'.repeat(300_000)
    const body = parseJson(Buffer.from(`{"s":"${long}","t":"${'b'.repeat(3_000_000)}","n":9007199254740993}`))
    expect((body.lossless() as { n: string }).n).toBe('9007199254740993')
  })

  it('round numbers to float16 as the dtype does', () => {
    fc.assert(
      fc.property(fc.double({ min: -65519, max: 65519, noNaN: true }), (value) => {
        const { data } = read(spec('float16', 1), `[${Object.is(value, -0) ? '-0' : value}]`)
        expect(data[0]).toBe(toFloat16Bits(value))
      }),
      { seed: 5 },
    )
  })

  it.each<[string, TensorSpec, string, string, RegExp]>([
    ['too few dimensions', spec('float32', 'batch', 2), '[1,2]', '/inputs/x', /shape \[2\], expected \[batch, 2\]/],
    ['too many dimensions', spec('float32', 'batch', 2), '[[[1,2]]]', '/inputs/x', /shape \[1, 1, 2\], expected \[batch, 2\]/],
    ['a wrong fixed dimension', spec('float32', 'batch', 2), '[[1,2,3]]', '/inputs/x', /shape \[1, 3\], expected \[batch, 2\]/],
    ['ragged rows', spec('float32', 'batch', 2), '[[1,2],[3]]', '/inputs/x/1', /an array of 1, expected an array of 2/],
    ['a row that is no array', spec('float32', 'batch', 2), '[[1,2],3]', '/inputs/x/1', /is 3, expected an array of 2/],
    ['null for an element', spec('float32', -1), '[1,null]', '/inputs/x/1', /is null, expected a number/],
    ['text for a number', spec('float32', -1), '["1"]', '/inputs/x/0', /is "1", expected a number/],
    ['a number too large for float32', spec('float32', -1), '[1e39]', '/inputs/x/0', /is 1e\+39, expected a number in range/],
    ['a number too large for a double', spec('float64', -1), '[1e999]', '/inputs/x/0', /Infinity, expected a number in range/],
    ['a fraction for an integer', spec('int32', -1), '[1.5]', '/inputs/x/0', /is 1.5, expected a whole number/],
    ['an integer out of range', spec('int8', -1), '[128]', '/inputs/x/0', /from -128 to 127/],
    ['a number for a string', spec('string', -1), '[1]', '/inputs/x/0', /is 1, expected a string/],
    ['a string that the runtime would cut', spec('string', -1), '["a\\u0000b"]', '/inputs/x/0', /without U\+0000/],
    ['half a surrogate pair', spec('string', -1), '["\\ud800"]', '/inputs/x/0', /whole characters/],
    ['2 for a bool', spec('bool', -1), '[2]', '/inputs/x/0', /expected true or false/],
    ['another dtype', spec('float32', -1), '{"shape":[1],"dtype":"int32","data":[1]}', '/inputs/x/dtype', /is "int32", expected "float32"/],
    ['no shape', spec('float32', -1), '{"data":[1]}', '/inputs/x/shape', /came with nothing/],
    ['no data', spec('float32', -1), '{"shape":[1]}', '/inputs/x/data', /is nothing, expected an array or base64/],
    ['a negative size', spec('float32', -1), '{"shape":[-1],"data":[]}', '/inputs/x/shape', /came with -1/],
    ['more elements than the shape', spec('float32', -1), '{"shape":[1],"data":[1,2]}', '/inputs/x/data', /2 elements, expected 1/],
    ['base64 of another size', spec('float32', -1), '{"shape":[2],"data":"AAAAAA=="}', '/inputs/x/data', /4 bytes, expected 8/],
    ['what is not base64', spec('float32', -1), '{"shape":[1],"data":"AA*AAA=="}', '/inputs/x/data', /not valid base64/],
    ['a text for an input', spec('float32', -1), '"abc"', '/inputs/x', /is "abc", expected an array/],
  ])('refuse %s', (_name, expected, text, pointer, detail) => {
    const error = refusal(expected, text)
    expect(error.status).toBe(422)
    expect(error.errors[0]?.pointer).toBe(pointer)
    expect(error.errors[0]?.detail).toMatch(detail)
  })

  it('refuse an unknown field of an input by name', () => {
    const error = refusal(spec('float32', -1), '{"shape":[1],"data":[1],"dytpe":"float32"}')
    expect(error.code).toBe('unknown_field')
    expect(error.errors[0]?.pointer).toBe('/inputs/x/dytpe')
  })

  it('never allocate more than the body could fill', () => {
    const huge = `{"shape":[4294967296,1048576],"data":[[1]]}`
    expect(refusal(spec('float32', -1, -1), huge).errors[0]?.detail).toMatch(/fewer elements than its shape/)
    expect(refusal(spec('float32', -1, -1), '{"shape":[9007199254740991,9007199254740991],"data":[]}').errors[0]?.detail).toMatch(/too many elements to count/)
    // 100,000 rows, of which only the first has any columns: 10¹⁰ elements by its first rows.
    const lopsided = JSON.stringify([Array.from({ length: 100_000 }, () => 0), ...Array.from({ length: 99_999 }, () => [])])
    expect(refusal(spec('float32', -1, -1), lopsided).errors[0]?.detail).toMatch(/fewer elements than its shape/)
  })

  it('survive nesting as deep as the body is long', () => {
    const deep = '['.repeat(500_000) + ']'.repeat(500_000)
    expect(refusal(spec('float32', -1), deep).errors[0]?.detail).toMatch(/expected \[\?\]/)
  })

  it('are refused when the text is not UTF-8 or not JSON', () => {
    expect(() => parseJson(Buffer.from([0x7b, 0xff, 0x7d]))).toThrow(/not valid UTF-8/)
    expect(() => parseJson(Buffer.from('{"a":'))).toThrow(/not valid JSON/)
    expect(() => parseJson(Buffer.alloc(0))).toThrow(/is empty/)
  })

  it('keep every dtype the tensor layer knows', () => {
    for (const dtype of Object.keys(dtypes) as DType[]) {
      const tensor = read(spec(dtype, 0), '[]')
      expect(tensor).toMatchObject({ dtype, dims: [0] })
    }
  })
})
