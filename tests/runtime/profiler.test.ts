// Profiler and footprint: structure, order, limits and cancellation. Not speed: test machines are busy.
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { measureFootprint } from '#flyweight/runtime/footprint.js'
import { profileInterleaved } from '#flyweight/runtime/profiler.js'
import { syntheticFeeds } from '#flyweight/runtime/sample-inputs.js'

const digits = fileURLToPath(new URL('../fixtures/digits_cnn.onnx', import.meta.url))
const inputs = [{ name: 'x', dtype: 'float32' as const, dims: ['n', 1, 28, 28] }]
const feedsAt = (batch: number) => syntheticFeeds(inputs, { batch, seed: 1 })
const subjects = [
  { name: 'source', file: digits },
  { name: 'variant', file: digits },
]

test('every subject has ordered percentiles of enough runs at every batch size, and a ratio to the first', async () => {
  const fractions: number[] = []
  const profiles = await profileInterleaved({
    subjects,
    feedsAt,
    batches: [1, 4],
    budgetMs: 300,
    onProgress: ({ fraction }) => fractions.push(fraction),
  })
  expect([...profiles.keys()]).toEqual(['source', 'variant'])
  for (const { latencies, ratios, loadMs } of profiles.values()) {
    expect(latencies.map(({ batch }) => batch)).toEqual([1, 4])
    expect(ratios.map(({ batch }) => batch)).toEqual([1, 4])
    expect(loadMs).toBeGreaterThan(0)
    for (const { p50Ms, p99Ms, runs } of latencies) {
      expect(p50Ms).toBeGreaterThan(0)
      expect(p99Ms).toBeGreaterThanOrEqual(p50Ms)
      expect(runs).toBeGreaterThanOrEqual(5)
    }
  }
  expect(profiles.get('source')?.ratios.map(({ ratio }) => ratio)).toEqual([1, 1])
  expect(profiles.get('variant')?.ratios.every(({ ratio }) => ratio > 0)).toBe(true)
  expect(fractions).toEqual([...fractions].sort((a, b) => a - b))
  expect(fractions.at(-1)).toBe(1)
})

test('a model slower than the whole budget still gets its least number of runs', async () => {
  const profiles = await profileInterleaved({ subjects: subjects.slice(0, 1), feedsAt, batches: [32], budgetMs: 0 })
  expect(profiles.get('source')?.latencies[0]?.runs).toBe(5)
  const fewer = await profileInterleaved({ subjects, feedsAt, batches: [1, 32], budgetMs: 0, leastRounds: 3 })
  expect([...fewer.values()].flatMap(({ latencies }) => latencies.map(({ runs }) => runs))).toEqual([3, 3, 3, 3])
})

test('an abort ends it between two runs', async () => {
  const abort = new AbortController()
  const measured = profileInterleaved({ subjects, feedsAt, batches: [1], budgetMs: 60_000, signal: abort.signal, onProgress: () => abort.abort() })
  await expect(measured).rejects.toMatchObject({ code: 'cancelled' })
})

test('the footprint grows with the batch, and a broken model is an error', async () => {
  const small = await measureFootprint({ file: digits, feeds: feedsAt(1) })
  const large = await measureFootprint({ file: digits, feeds: feedsAt(512) })
  expect(small.loadMs).toBeGreaterThan(0)
  expect(large.residentBytes).toBeGreaterThan(small.residentBytes)
  await expect(measureFootprint({ file: '/absent.onnx', feeds: {} })).rejects.toMatchObject({ code: 'invalid_model' })
})
