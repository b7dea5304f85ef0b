import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { mallocEnvironment } from '#flyweight/runtime/malloc.js'
import type { CacheSnapshot } from '#flyweight/serving/request.js'

const script = fileURLToPath(new URL('./load-evict-cycles.mjs', import.meta.url))

interface Outcome {
  /** Bytes, after every tenth cycle. */
  rss: number[]
  failures: string[]
  evictions: number
  cache: CacheSnapshot
}

async function cycles(mode: 'release' | 'leak'): Promise<Outcome> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script, mode], {
    env: { ...process.env, ...mallocEnvironment },
  })
  return JSON.parse(stdout) as Outcome
}

/** Growth from the first quarter to the end, each the least of three readings. */
function growth({ rss }: Outcome): number {
  const least = (readings: number[]) => Math.min(...readings)
  return least(rss.slice(-3)) - least(rss.slice(3, 6))
}

it('stays within a budget that holds one of two models, and gives memory back over 200 load and evict cycles', async () => {
  const [released, leaked] = [await cycles('release'), await cycles('leak')]
  expect(released.failures).toEqual([])
  expect(released.evictions).toBeGreaterThanOrEqual(398)
  expect(released.cache.residentBytes).toBeLessThanOrEqual(released.cache.budgetBytes)
  expect(released.cache.entries).toHaveLength(1)
  expect(growth(leaked)).toBeGreaterThan(60 * 2 ** 20)
  expect(growth(released)).toBeLessThan(growth(leaked) / 5)
}, 240_000)
