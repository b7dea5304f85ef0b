// Memory that is used again: what was given comes out by size, and no more lies unused than may.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { ValueMemory } from '#flyweight/shard/value-memory.js'

it('gives each buffer out once, of the size asked for, and keeps no more than its capacity', () => {
  const steps = fc.array(fc.record({ give: fc.boolean(), size: fc.constantFrom(1, 10, 30, 100) }), { maxLength: 60 })
  fc.assert(
    fc.property(steps, fc.integer({ min: 0, max: 200 }), (each, capacity) => {
      const memory = new ValueMemory(capacity)
      const inside = new Set<ArrayBuffer>()
      for (const { give, size } of each) {
        if (give) {
          const buffer = new ArrayBuffer(size)
          inside.add(buffer)
          memory.give([buffer])
        } else {
          const taken = memory.take(size)
          if (taken === undefined) continue
          expect(taken.byteLength).toBe(size)
          expect(inside.delete(taken)).toBe(true)
        }
        // What it let go is freed, and has no bytes any more.
        expect([...inside].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThanOrEqual(capacity)
      }
      for (const buffer of inside) if (buffer.byteLength > 0) expect(memory.take(buffer.byteLength)?.byteLength).toBe(buffer.byteLength)
    }),
    { seed: 2 },
  )
})

it('lets go first of sizes that were not used for long', () => {
  const memory = new ValueMemory(20)
  const [old, used, last] = [new ArrayBuffer(5), new ArrayBuffer(6), new ArrayBuffer(12)]
  memory.give([old, used])
  memory.give([memory.take(5)!])
  memory.give([last])
  expect([old, used, last].map(({ byteLength }) => byteLength)).toEqual([5, 0, 12])
})

it("leaves alone what is gone, and what may be Node's pool", () => {
  const memory = new ValueMemory(1e6)
  memory.give([new ArrayBuffer(0), Buffer.from('small').buffer])
  expect(memory.take(0)).toBeUndefined()
  expect(memory.take(Buffer.poolSize)).toBeUndefined()
})
