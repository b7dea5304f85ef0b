import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { scheduleOf } from '#flyweight/train/schedule.js'

const kinds = ['constant', 'linear', 'cosine', 'one-cycle'] as const

describe.each(kinds)('%s', (kind) => {
  it('never leaves 0 to 1, for any step of any training', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.nat(600), (total, warmup) => {
        const schedule = scheduleOf(kind === 'one-cycle' ? { kind } : { kind, warmup })
        for (let step = 0; step < total; step++) {
          const share = schedule(step, total)
          expect(share).toBeGreaterThanOrEqual(0)
          expect(share).toBeLessThanOrEqual(1)
        }
      }),
      { seed: 1, numRuns: 50 },
    )
  })
})

it('rises during warm-up, without a jump at its end', () => {
  const schedule = scheduleOf({ kind: 'cosine', warmup: 9 })
  const shares = Array.from({ length: 100 }, (_, step) => schedule(step, 100))
  expect(shares.slice(0, 10)).toEqual(Array.from({ length: 10 }, (_, step) => (step + 1) / 10))
  for (let step = 10; step < 100; step++) expect(shares[step]).toBeLessThan(shares[step - 1] as number)
})

it('ends where it is told to', () => {
  expect(scheduleOf({ kind: 'linear', final: 0.2 })(99, 100)).toBeCloseTo(0.2)
  expect(scheduleOf({ kind: 'cosine', final: 0.1 })(99, 100)).toBeCloseTo(0.1)
  expect(scheduleOf({ kind: 'linear' })(50, 101)).toBeCloseTo(0.5)
  expect(scheduleOf({ kind: 'cosine' })(50, 101)).toBeCloseTo(0.5)
})

it('has one cycle: up to the highest rate, then down to almost nothing', () => {
  const schedule = scheduleOf({ kind: 'one-cycle', rise: 0.25 })
  const shares = Array.from({ length: 101 }, (_, step) => schedule(step, 101))
  expect(shares[0]).toBeCloseTo(0.04)
  expect(shares[25]).toBeCloseTo(1)
  expect(shares[100]).toBeCloseTo(0.0001)
  expect(shares.indexOf(Math.max(...shares))).toBe(25)
})
