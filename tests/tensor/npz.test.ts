import fc from 'fast-check'
import { strToU8, unzipSync, zipSync } from 'fflate'
import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { readNpz, writeNpz } from '#flyweight/tensor/npz.js'
import { allocate, dtypes, elementCount, type DType, type Tensor } from '#flyweight/tensor/tensor.js'

function npy(header: string, body: Uint8Array = new Uint8Array(), version = 1): Uint8Array {
  const text = strToU8(`${header}\n`)
  const length = version === 1 ? [text.length & 255, text.length >> 8] : [text.length & 255, text.length >> 8, 0, 0]
  return Uint8Array.of(0x93, ...strToU8('NUMPY'), version, 0, ...length, ...text, ...body)
}

const dtypeNames = (Object.keys(dtypes) as DType[]).filter((dtype) => dtype !== 'bfloat16' && dtype !== 'string')
const tensors = fc
  .record({ dtype: fc.constantFrom(...dtypeNames), dims: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }), seed: fc.integer() })
  .map(({ dtype, dims, seed }): Tensor => {
    const data = allocate(dtype, elementCount(dims)) as Uint8Array<ArrayBuffer>
    const bytes = new Uint8Array(data.buffer)
    for (let i = 0; i < bytes.length; i++) bytes[i] = dtype === 'bool' ? i & 1 : Math.imul(seed + i, 2654435761) >>> 24
    return { dtype, dims, data }
  })

describe('npz', () => {
  it('reads back what it wrote, of every dtype and shape', () => {
    fc.assert(
      fc.property(fc.array(tensors, { maxLength: 4 }), (list) => {
        const arrays = new Map(list.map((tensor, i) => [`in/array ${i}`, tensor]))
        expect(readNpz(writeNpz(arrays))).toEqual(arrays)
      }),
      { numRuns: 200, seed: 3 },
    )
  })

  it('reads back texts as fixed-width unicode', () => {
    const texts: Tensor = { dtype: 'string', dims: [2, 2], data: ['', 'héllo', '漢字', '🙂x'] }
    expect(readNpz(writeNpz(new Map([['labels', texts]]))).get('labels')).toEqual(texts)
  })

  it('gives the same bytes for the same arrays', () => {
    const arrays = new Map([['x', { dtype: 'float32', dims: [2], data: Float32Array.of(1, 2) } satisfies Tensor]])
    expect(writeNpz(arrays)).toEqual(writeNpz(arrays))
  })

  it('starts data at a multiple of 64 bytes, as NumPy does', () => {
    const file = unzipSync(writeNpz(new Map([['x', { dtype: 'int8', dims: [3], data: Int8Array.of(1, 2, 3) }]])))['x.npy'] as Uint8Array
    expect((file.length - 3) % 64).toBe(0)
    expect(Buffer.from(file.subarray(10, file.length - 3)).toString()).toMatch(/^\{'descr': '\|i1', 'fortran_order': False, 'shape': \(3,\), \} *\n$/)
  })

  it("reads NumPy's version 2 headers and boolean arrays", () => {
    const file = zipSync({ 'x.npy': npy("{'descr': '|b1', 'fortran_order': False, 'shape': (2, 1), }", Uint8Array.of(1, 0), 2) })
    expect(readNpz(file).get('x')).toEqual({ dtype: 'bool', dims: [2, 1], data: Uint8Array.of(1, 0) })
  })

  it.each([
    ['Fortran order', npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", new Uint8Array(4)), /Fortran order/],
    ['big-endian numbers', npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", new Uint8Array(4)), /big-endian/],
    ['pickled objects', npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), /dtype \|O/],
    ['structured types', npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }"), /no plain dtype/],
    ['data that is too short', npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", new Uint8Array(8)), /needs 12/],
    ['something else', strToU8('not an array at all'), /not in \.npy format/],
  ])('refuses %s, naming the array', (_, file, reason) => {
    const read = () => readNpz(zipSync({ 'bad.npy': file }))
    expect(read).toThrow(reason)
    expect(read).toThrow(/bad\.npy/)
    expect(read).toThrow(FlyweightError)
  })

  it('refuses what is not a zip', () => {
    expect(() => readNpz(strToU8('x'.repeat(100)))).toThrow(FlyweightError)
  })
})
