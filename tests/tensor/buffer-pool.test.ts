import { expect, it } from 'vitest'
import { BufferPool } from '#flyweight/tensor/buffer-pool.js'

const MIB = 2 ** 20

it('gives out again what came back, for any batch that fits', () => {
  const pool = new BufferPool(8 * MIB)
  const first = pool.take(MIB + 1)
  expect(first.byteLength).toBeGreaterThanOrEqual(MIB + 1)
  expect(pool.take(MIB + 1)).not.toBe(first)
  pool.give(first)
  expect(pool.take(MIB + 4096)).toBe(first)
})

it('keeps no more unused than its capacity', () => {
  const pool = new BufferPool(2 * MIB)
  const buffers = [pool.take(MIB), pool.take(MIB), pool.take(MIB)]
  for (const buffer of buffers) pool.give(buffer)
  const again = [pool.take(MIB), pool.take(MIB), pool.take(MIB)]
  expect(again.filter((buffer) => buffers.includes(buffer))).toHaveLength(2)
})

it('leaves small buffers to the allocator', () => {
  const pool = new BufferPool(8 * MIB)
  const small = pool.take(1000)
  expect(small.byteLength).toBe(1000)
  pool.give(small)
  expect(pool.take(1000)).not.toBe(small)
})
