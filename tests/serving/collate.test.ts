import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Signature } from '#flyweight/registry/model.js'
import { BufferPool } from '#flyweight/tensor/buffer-pool.js'
import { bucketOf, concatenate, rowsOf, split } from '#flyweight/serving/collate.js'

const signature: Signature = {
  inputs: [
    { name: 'x', dtype: 'float32', dims: ['n', 3] },
    { name: 'ids', dtype: 'int64', dims: ['n'] },
  ],
  outputs: [],
  batchable: true,
  opset: 21,
  parameters: 0,
  operators: {},
}

const request = fc.integer({ min: 1, max: 5 }).chain((rows) =>
  fc.record({
    x: fc.array(fc.float({ noNaN: true }), { minLength: rows * 3, maxLength: rows * 3 }),
    ids: fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { minLength: rows, maxLength: rows }),
  }),
)

describe('concatenate and split', () => {
  it('give every request its own rows back', () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 6 }), (requests) => {
        const feeds = requests.map(({ x, ids }) => ({
          x: { dtype: 'float32' as const, dims: [ids.length, 3], data: Float32Array.from(x) },
          ids: { dtype: 'int64' as const, dims: [ids.length], data: BigInt64Array.from(ids) },
        }))
        const batch = concatenate(feeds, signature, new BufferPool(0))
        expect(batch['x']!.dims).toEqual([requests.reduce((sum, { ids }) => sum + ids.length, 0), 3])
        const parts = split(
          batch,
          feeds.map((each) => rowsOf(each, signature)),
        )
        expect(parts).toEqual(feeds)
      }),
      { seed: 5, numRuns: 200 },
    )
  })

  it('leaves the requests their own buffers, so that they can be tried again', () => {
    const x = { dtype: 'float32' as const, dims: [1, 3], data: Float32Array.of(1, 2, 3) }
    const ids = { dtype: 'int64' as const, dims: [1], data: BigInt64Array.of(1n) }
    expect((concatenate([{ x, ids }], signature, new BufferPool(0))['x']!.data as Float32Array).buffer).not.toBe(x.data.buffer)
  })

  it('refuses outputs that do not have a row for each input row', () => {
    const odd = { y: { dtype: 'float32' as const, dims: [3, 1], data: new Float32Array(3) } }
    expect(() => split(odd, [1, 1])).toThrow('output "y" has 3 rows for a batch of 2')
  })
})

describe('rowsOf', () => {
  it('says which input has an odd number of rows', () => {
    const feeds = {
      x: { dtype: 'float32' as const, dims: [2, 3], data: new Float32Array(6) },
      ids: { dtype: 'int64' as const, dims: [1], data: new BigInt64Array(1) },
    }
    expect(() => rowsOf(feeds, signature)).toThrow('"x" has 2, "ids" has 1')
  })
})

describe('bucketOf', () => {
  it('puts requests of equal row shape together, whatever their rows', () => {
    const feeds = (rows: number, width: number) => ({
      x: { dtype: 'float32' as const, dims: [rows, width], data: new Float32Array(rows * width) },
      ids: { dtype: 'int64' as const, dims: [rows], data: new BigInt64Array(rows) },
    })
    expect(bucketOf(feeds(1, 3), signature, undefined).key).toBe(bucketOf(feeds(4, 3), signature, undefined).key)
    expect(bucketOf(feeds(1, 3), signature, undefined).key).not.toBe(bucketOf(feeds(1, 4), signature, undefined).key)
  })
})
