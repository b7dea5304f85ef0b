// The sample of rows on disk: uniform whatever the order, never above its limits, and the same after a restart.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { freezeRows, KEYS, Reservoir, type ReservoirLimits } from '#flyweight/registry/reservoir.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-reservoir-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const files = (of = folder) => readdirSync(of).filter((name) => name.endsWith('.npz'))
const bytesOnDisk = () => files().reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
/** Park and Miller's minimal standard generator. */
const seeded = (seed: number) => () => (seed = (seed * 48271) % 2147483647) / 2147483647
const keyFrom = (random: () => number) => Math.floor(random() * KEYS)
const fileOf = (row: number, bytes = 4) => Buffer.from(String(row).padStart(bytes, '0'))
const rowsIn = (of: string) => files(of).map((name) => Number(readFileSync(join(of, name), 'utf8')))

it('keeps every row of a stream with the same probability', async () => {
  const [runs, stream, kept] = [160, 20, 5]
  const random = seeded(42)
  const counts = new Array<number>(stream).fill(0)
  for (let run = 0; run < runs; run++) {
    const own = join(folder, String(run))
    let reservoir = new Reservoir(own, { maxBytes: 1000, maxRows: kept })
    for (let row = 0; row < stream; row++) {
      // A restart in the middle of the stream must not favour either half.
      if (row === stream / 2) {
        await reservoir.save()
        reservoir = new Reservoir(own, { maxBytes: 1000, maxRows: kept })
      }
      await reservoir.keep(keyFrom(random), fileOf(row))
    }
    const rows = rowsIn(own)
    expect(rows).toHaveLength(kept)
    for (const row of rows) counts[row]! += 1
  }
  const expected = (runs * kept) / stream
  const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
  // 19 degrees of freedom: above 43.8 with probability 0.001 for independent draws, less for these, which are without replacement.
  expect(chiSquare).toBeLessThan(43.8)
})

it('never has more bytes or rows than it may, whatever their sizes', async () => {
  const limits = { maxBytes: 400, maxRows: 12 }
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.maxSafeNat(), fc.integer({ min: 1, max: 60 })), { maxLength: 40 }), async (rows) => {
      rmSync(folder, { recursive: true, force: true })
      const reservoir = new Reservoir(folder, limits)
      for (const [key, bytes] of rows) {
        const outcome = await reservoir.keep(key % KEYS, Buffer.alloc(bytes))
        expect(outcome === 'too-large').toBe(bytes > 50)
        expect(bytesOnDisk()).toBeLessThanOrEqual(limits.maxBytes)
        expect(files().length).toBeLessThanOrEqual(limits.maxRows)
        expect({ rows: reservoir.rows, bytes: reservoir.bytes }).toEqual({ rows: files().length, bytes: bytesOnDisk() })
      }
    }),
    { numRuns: 40, seed: 1 },
  )
})

it('goes on where it stopped, and never takes back what it gave up', async () => {
  const limits: ReservoirLimits = { maxBytes: 1000, maxRows: 3 }
  const first = new Reservoir(folder, limits)
  for (const key of [10, 30, 20, 5]) await first.keep(key, fileOf(key))
  first.seen = 77
  await first.save()
  expect(rowsIn(folder).toSorted((a, b) => a - b)).toEqual([5, 10, 20])
  const again = new Reservoir(folder, limits)
  expect({ rows: again.rows, seen: again.seen }).toEqual({ rows: 3, seen: 77 })
  expect([29, 30, 31].map((key) => again.wants(key))).toEqual([true, false, false])
  expect(await again.keep(31, fileOf(31))).toBe('not-wanted')
})

it('opens after a kill: half-written rows are gone, the state may be missing, and limits may have been lowered', async () => {
  const before = new Reservoir(folder, { maxBytes: 1000, maxRows: 9 })
  for (const key of [1, 2, 3, 4, 5]) await before.keep(key, fileOf(key))
  writeFileSync(join(folder, '0000000000009.tmp'), 'half')
  const after = new Reservoir(folder, { maxBytes: 1000, maxRows: 2 })
  expect(readdirSync(folder)).toHaveLength(2)
  expect({ rows: after.rows, seen: after.seen, wants: [2, 3].map((key) => after.wants(key)) }).toEqual({ rows: 2, seen: 5, wants: [true, false] })
})

it('begins anew when cleared', async () => {
  const reservoir = new Reservoir(folder, { maxBytes: 1000, maxRows: 1 })
  for (const key of [5, 4, 3]) await reservoir.keep(key, fileOf(key))
  await reservoir.clear()
  expect({ rows: reservoir.rows, bytes: reservoir.bytes, seen: reservoir.seen, files: readdirSync(folder) }).toEqual({ rows: 0, bytes: 0, seen: 0, files: [] })
  expect(await reservoir.keep(9, fileOf(9))).toBe('kept')
})

it('can be frozen: what is given up afterwards stays in the view', async () => {
  const reservoir = new Reservoir(folder, { maxBytes: 1000, maxRows: 2 })
  for (const key of [5, 4]) await reservoir.keep(key, fileOf(key))
  const view = join(folder, 'view')
  await mkdir(view)
  await freezeRows(folder, view)
  await reservoir.keep(1, fileOf(1))
  expect(rowsIn(view).toSorted((a, b) => a - b)).toEqual([4, 5])
  await freezeRows(join(folder, 'nowhere'), view)
})
