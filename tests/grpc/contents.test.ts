import { describe, expect, it } from 'vitest'
import { decodeInputs } from '#flyweight/grpc/contents.js'
import type { InferRequestMessage, InputTensor } from '#flyweight/grpc/messages.js'
import { dtypes, type DType } from '#flyweight/tensor/tensor.js'
import { samples } from './samples.js'

function decode(dtype: DType, input: Partial<InputTensor>, raw: Uint8Array[] = []) {
  const signature = { inputs: [{ name: 'x', dtype, dims: ['n'] }], outputs: [], batchable: true, operators: {} } as never
  const inputs = [{ name: 'x', datatype: dtypes[dtype].v2, shape: ['2'], ...input }]
  return decodeInputs({ signature }, { inputs, raw_input_contents: raw } as unknown as InferRequestMessage)['x']
}

describe('decodeInputs', () => {
  it.each(Object.keys(samples) as DType[])('reads %s the same typed and raw', (dtype) => {
    const { field, values, raw } = samples[dtype]!
    const tensor = decode(dtype, {}, [raw])
    expect(tensor).toMatchObject({ dtype, dims: [2] })
    if (field !== undefined) expect(decode(dtype, { contents: { [field]: values } })).toEqual(tensor)
  })

  it('takes bfloat16 and float16 only raw', () => {
    expect(decode('bfloat16', {}, [Uint8Array.of(0x80, 0x3f, 0, 0)])).toMatchObject({ data: Uint16Array.of(0x3f80, 0) })
    for (const dtype of ['bfloat16', 'float16'] as const) {
      expect(() => decode(dtype, { contents: { fp32_contents: [1, 0] } })).toThrow(`cannot hold ${dtypes[dtype].v2}, expected raw_input_contents`)
    }
  })

  it.each([
    ['int8', { int_contents: [1, 128] }, '/inputs/0/contents/int_contents/1 is 128, expected a whole number from -128 to 127'],
    ['uint16', { uint_contents: [65536, 1] }, '/inputs/0/contents/uint_contents/0 is 65536'],
    ['string', { bytes_contents: [Buffer.from('a'), Uint8Array.of(0xff)] }, 'has a string (1) that is not UTF-8'],
    ['string', { bytes_contents: [Buffer.from('a\0b'), Buffer.from('')] }, 'has a string (0) with U+0000'],
    ['float32', { fp32_contents: [1, 2, 3] }, 'has 3 elements, expected 2 for shape [2]'],
    ['float32', { fp64_contents: [1, 2] }, 'fp64_contents is there, expected fp32_contents for FP32'],
  ] as const)('refuses %s %j', (dtype, contents, text) => {
    expect(() => decode(dtype, { contents })).toThrow(text)
  })

  it('needs no contents for no elements, and no more elements than it can count', () => {
    expect(decode('float32', { shape: ['0'] })).toMatchObject({ dims: [0], data: new Float32Array(0) })
    expect(() => decode('float32', { shape: ['9223372036854775807'] })).toThrow('/inputs/0/shape')
    expect(() => decode('float32', { shape: ['-1'] })).toThrow('/inputs/0/shape came with -1')
  })
})
