// The front holds what nothing beats, and everything else is beaten by one of the front; noise makes no front.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { divide, mayServe, type Standing } from '#flyweight/compress/search/front.js'

const BATCHES = [1, 8, 32]
const standing = (fidelity: number, bytes: number, ratios: readonly number[]): Standing => ({
  fidelity,
  bytes,
  ratios: ratios.map((ratio, index) => ({ batch: BATCHES[index]!, ratio })),
})
const standings = fc.array(
  fc
    .tuple(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 1, max: 10_000_000 }),
      fc.array(fc.double({ min: 0.1, max: 2, noNaN: true }), { minLength: 3, maxLength: 3 }),
    )
    .map(([fidelity, bytes, ratios]) => standing(fidelity, bytes, ratios)),
  { maxLength: 12 },
)

/** Better in everything by more than a step, latency included. */
function isFarBetter(one: Standing, other: Standing): boolean {
  return (
    one.fidelity > other.fidelity + 0.002 &&
    one.bytes < other.bytes * 0.98 &&
    mayServe(one) &&
    one.ratios.every(({ ratio }, index) => ratio < other.ratios[index]!.ratio - 0.04)
  )
}

describe('the front', () => {
  it('holds nothing that another member is better than in everything', () => {
    fc.assert(
      fc.property(standings, (entries) => {
        const { front } = divide(entries)
        for (const one of front) for (const other of front) expect(isFarBetter(one, other)).toBe(false)
      }),
    )
  })

  it('and those it beats are all there is; one is never beaten by what is worse in fidelity, bytes or latency by more than a step', () => {
    fc.assert(
      fc.property(standings, (entries) => {
        const { front, beatenBy } = divide(entries)
        expect(new Set([...front, ...beatenBy.keys()])).toEqual(new Set(entries))
        expect(front.length + beatenBy.size).toBe(entries.length)
        for (const [entry, winner] of beatenBy) {
          expect(front).toContain(winner)
          expect(winner.fidelity).toBeGreaterThan(entry.fidelity - 0.0011)
          expect(winner.bytes).toBeLessThan(entry.bytes * 1.011 + 1)
          if (mayServe(entry)) for (const [index, { ratio }] of winner.ratios.entries()) expect(ratio).toBeLessThan(entry.ratios[index]!.ratio + 0.021)
        }
      }),
    )
  })

  it('does not depend on the order, except among equals', () => {
    fc.assert(
      fc.property(standings, (entries) => {
        expect(divide(entries.toReversed()).front).toHaveLength(divide(entries).front.length)
      }),
    )
  })

  it('does not grow by measuring the same again', () => {
    const entries = [standing(1, 1000, [1, 1, 1]), standing(0.99, 400, [0.5, 0.62, 0.44])]
    const again = entries.map(({ fidelity, bytes, ratios }) =>
      standing(
        fidelity - 0.0002,
        bytes + 1,
        ratios.map(({ ratio }) => ratio + 0.006),
      ),
    )
    expect(divide([...entries, ...again]).front).toEqual(entries)
  })

  it('ranks what may not serve unasked by bytes and fidelity alone', () => {
    const source = standing(1, 1000, [1, 1, 1])
    const small = standing(0.99, 250, [0.3, 0.4, 1.1])
    const fast = standing(0.99, 250, [0.9, 0.9, 0.9])
    expect(divide([source, small]).front).toEqual([source, small])
    expect(divide([source, small, fast])).toEqual({ front: [source, fast], beatenBy: new Map([[small, fast]]) })
  })

  it('finds nothing wrong with no candidates', () => {
    expect(divide([])).toEqual({ front: [], beatenBy: new Map() })
  })
})

describe('what may serve', () => {
  it('is what was measured and is nowhere slower', () => {
    expect(mayServe(standing(1, 1, []))).toBe(false)
    expect(mayServe(standing(1, 1, [1, 0.9]))).toBe(true)
    expect(mayServe(standing(1, 1, [0.5, 1.001]))).toBe(false)
    expect(mayServe(standing(1, 1, [Number.NaN]))).toBe(false)
  })
})
