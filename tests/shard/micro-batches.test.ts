// Rows cut into micro-batches and put together again.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cutRows, microBatches, placeRows } from '#flyweight/shard/micro-batches.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../onnx/running.js'

const words: Tensor = { dtype: 'string', dims: [5, 1], data: ['a', 'b', 'c', 'd', 'e'] }

describe('micro-batches', () => {
  it('hold all rows once, in order, none more than allowed, and are few and equal but for one row', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 1, max: 50 }), (rows, most) => {
        const parts = microBatches(rows, most)
        expect(parts).toHaveLength(Math.max(1, Math.ceil(rows / most)))
        let next = 0
        for (const part of parts) {
          expect(part.first).toBe(next)
          expect(part.rows).toBeLessThanOrEqual(most)
          next += part.rows
        }
        expect(next).toBe(rows)
        const sizes = parts.map((part) => part.rows)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
      }),
      { seed: 1 },
    )
  })

  it('come from copies in memory that is given, and make up the whole in any order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 5 }), (rows, most) => {
        const whole = noise([rows, 3])
        const joined: Record<string, Tensor> = {}
        for (const part of microBatches(rows, most).reverse()) {
          const y = cutRows(whole, part, (bytes) => new ArrayBuffer(bytes + 64))
          expect((y.data as Float32Array).buffer).not.toBe((whole.data as Float32Array).buffer)
          placeRows(joined, { y }, { ...part, of: rows })
        }
        expect(joined).toEqual({ y: whole })
      }),
      { seed: 1 },
    )
  })

  it('may hold strings', () => {
    const joined: Record<string, Tensor> = {}
    for (const part of microBatches(5, 2)) placeRows(joined, { y: cutRows(words, part, (bytes) => new ArrayBuffer(bytes)) }, { ...part, of: 5 })
    expect(joined).toEqual({ y: words })
  })

  it('refuse outputs that are not one row for each of theirs, or differ from those before', () => {
    const joined: Record<string, Tensor> = {}
    placeRows(joined, { y: noise([2, 3]) }, { first: 0, rows: 2, of: 4 })
    const place = (tensor: Tensor) => () => placeRows(joined, { y: tensor }, { first: 2, rows: 2, of: 4 })
    expect(place(noise([1, 3]))).toThrow('output "y" has 1 rows for a micro-batch of 2')
    expect(place(noise([]))).toThrow('output "y" has no rows for a micro-batch of 2')
    expect(place(noise([2, 4]))).toThrow('output "y" has dims [2, 4] for one micro-batch, expected [2, 3] as for another')
  })
})
