import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { holdOutRows, ShuffledRows, subset } from '#flyweight/train/dataset.js'

describe('the sequence of rows', () => {
  it('visits every row once an epoch, in another order each, wherever it is read from', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.nat(1000), fc.integer({ min: 1, max: 20 }), (rows, seed, chunk) => {
        const whole = new ShuffledRows(rows, seed).take(0, 3 * rows)
        for (let epoch = 0; epoch < 3; epoch++) {
          const part = whole.slice(epoch * rows, (epoch + 1) * rows)
          expect([...part].sort((a, b) => a - b)).toEqual(Array.from({ length: rows }, (_, row) => row))
        }
        const resumed = new ShuffledRows(rows, seed)
        const from = chunk % (2 * rows)
        expect(resumed.take(from, rows)).toEqual(whole.slice(from, from + rows))
      }),
      { seed: 1 },
    )
  })

  it('differs between epochs and seeds', () => {
    const rows = new ShuffledRows(100, 1).take(0, 200)
    expect(rows.slice(0, 100)).not.toEqual(rows.slice(100))
    expect(new ShuffledRows(100, 2).take(0, 100)).not.toEqual(rows.slice(0, 100))
  })

  it('says that there are no rows', () => {
    expect(() => new ShuffledRows(0, 1)).toThrow('no rows')
  })
})

it('holds out rows once and for all, and leaves at least one on each side', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 80 }), fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(100), (rows, share, seed) => {
      const { train, heldOut } = holdOutRows(rows, share, seed)
      expect([...train, ...heldOut].sort((a, b) => a - b)).toEqual(Array.from({ length: rows }, (_, row) => row))
      expect(Math.min(train.length, heldOut.length)).toBeGreaterThan(0)
      expect(holdOutRows(rows, share, seed)).toEqual({ train, heldOut })
    }),
    { seed: 1 },
  )
})

it('gives a subset the rows it names', async () => {
  const data = { rows: 10, read: (rows: readonly number[]) => ({ x: { dtype: 'float32' as const, dims: [rows.length], data: Float32Array.from(rows) } }) }
  const some = subset(data, [7, 2, 5])
  expect(some.rows).toBe(3)
  expect((await some.read([2, 0], 0))['x']?.data).toEqual(Float32Array.of(5, 7))
})
