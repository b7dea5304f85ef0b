import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Profile } from '#flyweight/measurements.js'
import { LatencyBook } from '#flyweight/serving/latency-book.js'

const profile: Profile = {
  machine: 'test',
  device: 'cpu',
  rowDims: { x: [10] },
  latencies: [
    { batch: 1, p50Ms: 2, p99Ms: 4, runs: 50 },
    { batch: 8, p50Ms: 9, p99Ms: 12, runs: 50 },
  ],
  residentBytes: 1,
  loadMs: 1,
  measuredAt: '2026-01-01T00:00:00Z',
}
const bucket = { key: '10', elementsPerRow: 10, reference: undefined }

function seeded(clock = { now: 0 }): LatencyBook {
  const book = new LatencyBook(() => clock.now)
  book.seed('v', '10', profile)
  return book
}

describe('LatencyBook', () => {
  it('interpolates between profiled batch sizes and extends beyond them in proportion', () => {
    const book = seeded()
    expect(book.predict('v', bucket, 1)).toMatchObject({ p50Ms: 2, p99Ms: 4 })
    expect(book.predict('v', bucket, 4)).toMatchObject({ p50Ms: 5 })
    expect(book.predict('v', bucket, 16)).toEqual({ p50Ms: 18, p99Ms: 24 })
    expect(book.predict('unknown', bucket, 1)).toBeUndefined()
  })

  it('scales a shape it has not seen by its elements', () => {
    const wide = { key: '30', elementsPerRow: 30, reference: { key: '10', elementsPerRow: 10 } }
    expect(seeded().predict('v', wide, 1)).toEqual({ p50Ms: 6, p99Ms: 12 })
  })

  it('believes enough runs over the profile, and the profile again after a while without runs, for good', () => {
    const clock = { now: 0 }
    const book = seeded(clock)
    for (let run = 0; run < 3; run++) book.observe('v', '10', 1, 50)
    expect(book.predict('v', bucket, 1)?.p50Ms).toBe(2)
    for (let run = 0; run < 20; run++) book.observe('v', '10', 1, 50)
    expect(book.predict('v', bucket, 1)?.p50Ms).toBe(50)
    clock.now = 11_000
    expect(book.predict('v', bucket, 1)?.p50Ms).toBe(2)
    book.observe('v', '10', 1, 3)
    expect(book.predict('v', bucket, 1)?.p50Ms).toBe(2)
  })

  it('does not condemn a variant for a single hiccup', () => {
    const book = seeded()
    for (let run = 0; run < 128; run++) book.observe('v', '10', 1, run === 64 ? 900 : 3)
    expect(book.predict('v', bucket, 1)?.p99Ms).toBeLessThan(10)
  })

  it('never predicts that a larger batch takes less time', () => {
    const runs = fc.array(fc.tuple(fc.integer({ min: 1, max: 64 }), fc.double({ min: 0.01, max: 100, noNaN: true })), { maxLength: 200 })
    fc.assert(
      fc.property(runs, (observed) => {
        const book = seeded()
        for (const [batch, ms] of observed) book.observe('v', '10', batch, ms)
        let previous = 0
        for (let batch = 1; batch <= 80; batch++) {
          const { p99Ms } = book.predict('v', bucket, batch)!
          expect(p99Ms).toBeGreaterThanOrEqual(previous - 1e-9)
          previous = p99Ms
        }
      }),
      { seed: 2, numRuns: 100 },
    )
  })
})
