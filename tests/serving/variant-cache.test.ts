import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { VariantCache, type Placement } from '#flyweight/serving/variant-cache.js'
import { chooseVictims } from '#flyweight/serving/victims.js'

const placement = (variant: string, bytes: number, lane = 0): Placement => ({ variant, model: 'm', lane, file: '', bytes, pinned: false })

/** A cache over an imagined machine that records how much memory is in use at every moment. */
function machine(budget: number) {
  const log: string[] = []
  const memory = { used: 0, peak: 0 }
  const pause = () => new Promise((resolve) => setTimeout(resolve, 1))
  const cache = new VariantCache(budget, {
    load: async ({ variant, bytes }) => {
      memory.used += bytes
      memory.peak = Math.max(memory.peak, memory.used)
      await pause()
      if (variant === 'broken') {
        memory.used -= bytes
        throw new Error('cannot load')
      }
      return { loadMs: 1 }
    },
    unload: async ({ bytes }) => {
      await pause()
      memory.used -= bytes
    },
    loaded: ({ variant }) => log.push(`+${variant}`),
    evicted: ({ variant }, reason) => log.push(`-${variant} ${reason}`),
  })
  return { cache, log, memory }
}

describe('VariantCache', () => {
  it('loads once, leases many, and evicts the coldest for room', async () => {
    const { cache, log } = machine(10)
    const first = await cache.acquire(placement('a', 4))
    const again = await cache.acquire(placement('a', 4))
    first.release()
    again.release()
    for (const variant of ['b', 'c']) (await cache.acquire(placement(variant, 4))).release()
    expect(log).toEqual(['+a', '+b', '-b budget', '+c'])
    expect(cache.snapshot()).toMatchObject({ residentBytes: 8, evictions: { budget: 1 }, loads: 3 })
  })

  it('never evicts a leased variant: the next one waits until the lease ends', async () => {
    const { cache, log } = machine(10)
    const lease = await cache.acquire(placement('a', 8))
    const second = cache.acquire(placement('b', 8))
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(log).toEqual(['+a'])
    lease.release()
    ;(await second).release()
    expect(log).toEqual(['+a', '-a budget', '+b'])
  })

  it('refuses what can never fit, and gives back the room of a failed load', async () => {
    const { cache } = machine(10)
    await expect(cache.acquire(placement('huge', 11))).rejects.toMatchObject({ code: 'out_of_memory' })
    await expect(cache.acquire(placement('broken', 10))).rejects.toThrow('cannot load')
    expect(cache.residentBytes).toBe(0)
    ;(await cache.acquire(placement('a', 10))).release()
  })

  it('shares one load among callers that come together', async () => {
    const { cache, log } = machine(10)
    const leases = await Promise.all([1, 2, 3].map(() => cache.acquire(placement('a', 8))))
    for (const { release } of leases) release()
    expect(log).toEqual(['+a'])
  })

  it('keeps pinned variants, and unloads idle ones', async () => {
    const { cache, log } = machine(10)
    ;(await cache.acquire({ ...placement('a', 4), pinned: true })).release()
    for (const variant of ['b', 'c']) (await cache.acquire(placement(variant, 4))).release()
    await cache.evictIdle(Infinity)
    expect(log).toEqual(['+a', '+b', '-b budget', '+c', '-c idle'])
  })

  it('stays within its budget whatever is asked of it', async () => {
    const asks = fc.array(fc.record({ variant: fc.constantFrom('a', 'b', 'c', 'd'), lane: fc.integer({ min: 0, max: 2 }) }), { minLength: 1, maxLength: 30 })
    const bytes: Record<string, number> = { a: 3, b: 5, c: 7, d: 10 }
    await fc.assert(
      fc.asyncProperty(asks, async (wanted) => {
        const { cache, memory } = machine(12)
        await Promise.all(
          wanted.map(async ({ variant, lane }) => {
            const { release } = await cache.acquire(placement(variant, bytes[variant]!, lane))
            await new Promise((resolve) => setTimeout(resolve, 1))
            release()
          }),
        )
        expect(memory.peak).toBeLessThanOrEqual(12)
        expect(memory.used).toBe(cache.residentBytes)
      }),
      { seed: 3, numRuns: 25 },
    )
  })
})

describe('chooseVictims', () => {
  const resident = fc.record({
    bytes: fc.integer({ min: 1, max: 100 }),
    demand: fc.double({ min: 0, max: 50, noNaN: true }),
    reloadMs: fc.double({ min: 0, max: 1000, noNaN: true }),
    held: fc.boolean(),
  })

  it('makes room without touching what is held, or says that it cannot', () => {
    fc.assert(
      fc.property(fc.array(resident, { maxLength: 10 }), fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 300 }), (some, free, needed) => {
        const residents = some.map((entry, index) => ({ ...entry, key: String(index) }))
        const victims = chooseVictims(residents, free, needed)
        const evictable = residents.filter(({ held }) => !held).reduce((sum, { bytes }) => sum + bytes, 0)
        expect(victims === undefined).toBe(free + evictable < needed)
        if (victims === undefined) return
        const chosen = residents.filter(({ key }) => victims.includes(key))
        expect(chosen.every(({ held }) => !held)).toBe(true)
        expect(free + chosen.reduce((sum, { bytes }) => sum + bytes, 0)).toBeGreaterThanOrEqual(needed)
        if (free >= needed) expect(victims).toEqual([])
      }),
      { seed: 4, numRuns: 300 },
    )
  })
})
