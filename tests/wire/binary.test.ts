// Binary tensors: every dtype there and back, at any alignment; sizes that do not fit are refused.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { rawBytes, readRaw, readRawRequest, splitBody } from '#flyweight/wire/binary.js'
import type { Signature } from '#flyweight/registry/model.js'
import type { DType, TensorSpec } from '#flyweight/tensor/tensor.js'
import { anyTensor, same } from '../http/tensors.js'

const spec = (dtype: DType, ...dims: (number | string)[]): TensorSpec => ({ name: 'x', dtype, dims })
const signature = (batchable: boolean, ...inputs: TensorSpec[]): Signature => ({ inputs, outputs: [], batchable, opset: 21, parameters: 0, operators: {} })

describe('binary tensors', () => {
  it('come back as they were, wherever they start in the body', () => {
    fc.assert(
      fc.property(anyTensor, fc.integer({ min: 0, max: 9 }), (tensor, lead) => {
        const body = Buffer.concat([Buffer.alloc(lead, 0x7b), rawBytes(tensor)])
        const { raw } = splitBody(body, String(lead))
        const back = readRaw({ name: 'x', dtype: tensor.dtype, dims: tensor.dims }, tensor.dims, raw, '')
        return same(back, tensor)
      }),
      { seed: 11 },
    )
  })

  it('are laid out as the extension says', () => {
    expect(rawBytes({ dtype: 'int16', dims: [2], data: Int16Array.of(1, -2) })).toEqual(Buffer.from([1, 0, 0xfe, 0xff]))
    expect(rawBytes({ dtype: 'string', dims: [2], data: ['é', ''] })).toEqual(Buffer.from([2, 0, 0, 0, 0xc3, 0xa9, 0, 0, 0, 0]))
    expect(rawBytes({ dtype: 'bool', dims: [2], data: Uint8Array.of(1, 0) })).toEqual(Buffer.from([1, 0]))
  })

  it('of another size than the shape are refused', () => {
    fc.assert(
      fc.property(
        anyTensor.filter(({ dtype }) => dtype !== 'string'),
        fc.integer({ min: 1, max: 8 }),
        (tensor, extra) => {
          const bytes = Buffer.concat([rawBytes(tensor), Buffer.alloc(extra)])
          expect(() => readRaw({ name: 'x', dtype: tensor.dtype, dims: tensor.dims }, tensor.dims, bytes, '/p')).toThrow(/bytes, expected/)
        },
      ),
      { seed: 12 },
    )
  })

  it.each<[string, number, number[], RegExp]>([
    ['a length beyond the end', 1, [9, 0, 0, 0, 65], /ends inside string 0 of 1/],
    ['bytes left over', 1, [1, 0, 0, 0, 65, 66], /1 bytes after its 1 strings/],
    ['fewer strings than the shape', 2, [1, 0, 0, 0, 65], /too few for 2 strings/],
    ['a zero byte', 1, [1, 0, 0, 0, 0], /would cut it/],
    ['what is not UTF-8', 1, [1, 0, 0, 0, 0xff], /not UTF-8/],
  ])('of strings with %s are refused', (_name, count, bytes, detail) => {
    expect(() => readRaw(spec('string', count), [count], Buffer.from(bytes), '/p')).toThrow(detail)
  })

  it('of bools must be 0 or 1', () => {
    expect(() => readRaw(spec('bool', 2), [2], Buffer.from([1, 2]), '/p')).toThrow(/the byte 2 at 1/)
  })

  it.each(['-1', '5', '1.5', 'x', '', '99999999999999999999'])('a header length of %j for a body of 4 bytes is refused', (header) => {
    expect(() => splitBody(Buffer.alloc(4), header)).toThrow(FlyweightError)
  })
})

describe('a raw request', () => {
  it('gives the free dimension by its size', () => {
    const { x } = readRawRequest(signature(true, spec('float32', 'n', 3)), Buffer.alloc(24))
    expect(x?.dims).toEqual([2, 3])
  })

  it('has batch 1 where another dimension is free', () => {
    const { x } = readRawRequest(signature(true, spec('float32', 'n', 3, 48, 'w')), Buffer.alloc(3 * 48 * 20 * 4))
    expect(x?.dims).toEqual([1, 3, 48, 20])
  })

  it('is refused where the shape stays open, the size does not fit or the model wants more inputs', () => {
    expect(() => readRawRequest(signature(false, spec('float32', 'a', 'b')), Buffer.alloc(24))).toThrow(/one free dimension/)
    expect(() => readRawRequest(signature(true, spec('float32', 'n', 3)), Buffer.alloc(25))).toThrow(/multiple of 12/)
    expect(() => readRawRequest(signature(true, spec('float32', 'n'), { ...spec('float32', 'n'), name: 'y' }), Buffer.alloc(4))).toThrow(/model has 2/)
  })
})
