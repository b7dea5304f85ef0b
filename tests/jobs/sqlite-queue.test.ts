// The queue against a model of it: whatever the order of calls, and across reopening, the states agree.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Job, JobState } from '#flyweight/jobs/queue.js'
import { SqliteQueue } from '#flyweight/jobs/sqlite-queue.js'

let directory: string
let queue: SqliteQueue
const reopen = () => {
  queue.close()
  queue = new SqliteQueue(join(directory, 'jobs.db'))
}
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flyweight-jobs-'))
  queue = new SqliteQueue(join(directory, 'jobs.db'))
})
afterEach(() => {
  queue.close()
  rmSync(directory, { recursive: true })
})

describe('the life of a job', () => {
  test('is queued, running, then succeeded, and keeps what was reported', () => {
    const { id } = queue.submit('compress', { model: 'digits' }, { key: 'a' })
    expect(queue.get(id)).toMatchObject({ state: 'queued', attempts: 0, payload: { model: 'digits' }, startedAt: undefined })
    expect(queue.claim()).toMatchObject({ id, state: 'running', attempts: 1 })
    queue.report(id, { fraction: 0.5, step: 'calibrating 1/2', etaS: 3 }, 'half way')
    expect(queue.get(id)).toMatchObject({ progress: { fraction: 0.5, step: 'calibrating 1/2', etaS: 3 }, log: ['half way'] })
    queue.finish(id, { state: 'succeeded', result: { bytes: 7 } })
    reopen()
    expect(queue.get(id)).toMatchObject({ state: 'succeeded', result: { bytes: 7 }, log: ['half way'], progress: { fraction: 1 }, error: undefined })
  })

  test('keeps the code and text of its error', () => {
    const { id } = queue.submit('profile', {}, { key: 'a' })
    queue.claim()
    queue.finish(id, { state: 'failed', error: { code: 'invalid_recipe', detail: 'no such pass' } })
    reopen()
    expect(queue.get(id)).toMatchObject({ state: 'failed', error: { code: 'invalid_recipe', detail: 'no such pass' }, result: undefined })
  })

  test('an outcome that comes after a cancellation changes nothing', () => {
    const { id } = queue.submit('profile', {}, { key: 'a' })
    queue.claim()
    expect(queue.cancel(id).state).toBe('cancelled')
    queue.finish(id, { state: 'succeeded', result: 1 })
    queue.report(id, { fraction: 0.9, step: 'late' })
    expect(queue.get(id)).toMatchObject({ state: 'cancelled', result: undefined })
  })

  test('shows what it found so far, and keeps that when it is cancelled', () => {
    const noted = () => {
      const { id } = queue.submit('search', {}, { key: 'a' })
      queue.claim()
      queue.noteResult(id, { kept: 1 })
      queue.noteResult(id, { kept: 2 })
      expect(queue.get(id)).toMatchObject({ state: 'running', result: { kept: 2 } })
      return id
    }
    const cancelled = noted()
    queue.cancel(cancelled)
    queue.noteResult(cancelled, { kept: 3 })
    const released = noted()
    queue.release(released)
    expect(queue.get(released)).toMatchObject({ state: 'queued', result: undefined })
    reopen()
    expect(queue.get(cancelled)).toMatchObject({ state: 'cancelled', result: { kept: 2 } })
  })

  test('an unknown job is an error with a code', () => {
    expect(() => queue.get('job-none')).toThrowError(expect.objectContaining({ code: 'job_not_found' }))
    expect(() => queue.cancel('job-none')).toThrowError(expect.objectContaining({ code: 'job_not_found' }))
  })

  test('a log keeps its last lines only', () => {
    const { id } = queue.submit('profile', {}, { key: 'a' })
    queue.claim()
    for (let line = 0; line < 500; line++) queue.report(id, { fraction: 0, step: '' }, `line ${line}`)
    const { log } = queue.get(id)
    expect(log.length).toBeLessThanOrEqual(200)
    expect(log.at(-1)).toBe('line 499')
  })
})

describe('asking twice', () => {
  test('the same work is one job while it is queued or running, and a new one afterwards', () => {
    const first = queue.submit('compress', {}, { key: 'a' })
    expect(queue.submit('compress', {}, { key: 'a' }).id).toBe(first.id)
    queue.claim()
    expect(queue.submit('compress', {}, { key: 'a' }).id).toBe(first.id)
    expect(queue.submit('compress', {}, { key: 'b' }).id).not.toBe(first.id)
    queue.finish(first.id, { state: 'succeeded', result: null })
    expect(queue.submit('compress', {}, { key: 'a' }).id).not.toBe(first.id)
  })

  test('an idempotency key gives its first job even when that has ended, also after a restart', () => {
    const first = queue.submit('compress', {}, { key: 'a', idempotencyKey: 'once' })
    queue.claim()
    queue.finish(first.id, { state: 'succeeded', result: null })
    reopen()
    expect(queue.submit('compress', {}, { key: 'a', idempotencyKey: 'once' })).toMatchObject({ id: first.id, state: 'succeeded' })
    expect(() => queue.submit('compress', {}, { key: 'b', idempotencyKey: 'once' })).toThrowError(expect.objectContaining({ code: 'conflict' }))
  })
})

describe('a gateway that was killed', () => {
  test('finds its running jobs queued again, and failed after three attempts', () => {
    const { id } = queue.submit('profile', {}, { key: 'a' })
    for (const attempt of [1, 2, 3]) {
      expect(queue.claim()).toMatchObject({ id, attempts: attempt })
      reopen()
    }
    expect(queue.claim()).toBeUndefined()
    expect(queue.get(id)).toMatchObject({ state: 'failed', error: { code: 'internal' } })
    expect(queue.get(id).error?.detail).toContain('3 attempts')
  })

  test('a release does not count as an attempt', () => {
    const { id } = queue.submit('profile', {}, { key: 'a' })
    for (let i = 0; i < 5; i++) {
      queue.claim()
      queue.release(id)
    }
    expect(queue.claim()).toMatchObject({ id, attempts: 1 })
  })
})

describe('watching', () => {
  test('tells every change until the end, and all jobs under *', () => {
    const { id } = queue.submit('profile', {}, { key: 'a' })
    const seen: JobState[] = []
    const all: string[] = []
    queue.watch(id, (job) => seen.push(job.state))
    const unwatch = queue.watch('*', (job) => all.push(job.key))
    queue.submit('profile', {}, { key: 'b' })
    queue.claim()
    queue.report(id, { fraction: 0.1, step: 'x' })
    queue.finish(id, { state: 'succeeded', result: 1 })
    unwatch()
    queue.cancel(queue.submit('profile', {}, { key: 'b' }).id)
    expect(seen).toEqual(['running', 'running', 'succeeded'])
    expect(all).toEqual(['b', 'a', 'a', 'a'])
  })
})

test('any sequence of calls leaves the queue as a simple model of it says', () => {
  type Model = Map<string, { key: string; state: JobState; attempts: number }>
  const call = fc.oneof(
    fc.record({ do: fc.constant('submit' as const), key: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ do: fc.constant('claim' as const) }),
    fc.record({ do: fc.constantFrom('succeed' as const, 'fail' as const, 'cancel' as const, 'release' as const), pick: fc.nat(5) }),
    fc.record({ do: fc.constant('reopen' as const) }),
  )
  fc.assert(
    fc.property(fc.array(call, { maxLength: 30 }), (calls) => {
      for (const job of queue.list()) queue.cancel(job.id)
      const model: Model = new Map()
      const outside = new Set(queue.list().map(({ id }) => id))
      const active = (state: JobState) => state === 'queued' || state === 'running'
      for (const step of calls) {
        if (step.do === 'submit') {
          const same = [...model].find(([, job]) => job.key === step.key && active(job.state))
          const { id } = queue.submit('profile', {}, { key: step.key })
          if (same) expect(id).toBe(same[0])
          else model.set(id, { key: step.key, state: 'queued', attempts: 0 })
        } else if (step.do === 'claim') {
          const oldest = [...model].find(([, job]) => job.state === 'queued')
          expect(queue.claim()?.id).toBe(oldest?.[0])
          if (oldest) Object.assign(oldest[1], { state: 'running', attempts: oldest[1].attempts + 1 })
        } else if (step.do === 'reopen') {
          reopen()
          for (const job of model.values()) if (job.state === 'running') job.state = job.attempts < 3 ? 'queued' : 'failed'
        } else {
          const picked = [...model][step.pick]
          if (!picked) continue
          const [id, job] = picked
          if (step.do === 'cancel') {
            queue.cancel(id)
            if (active(job.state)) job.state = 'cancelled'
          } else if (step.do === 'release') {
            queue.release(id)
            if (job.state === 'running') Object.assign(job, { state: 'queued', attempts: job.attempts - 1 })
          } else {
            queue.finish(id, step.do === 'succeed' ? { state: 'succeeded', result: 1 } : { state: 'failed', error: { code: 'internal', detail: 'x' } })
            if (job.state === 'running') job.state = step.do === 'succeed' ? 'succeeded' : 'failed'
          }
        }
        const actual = queue.list().filter(({ id }) => !outside.has(id))
        expect(actual.map(stateOf).reverse()).toEqual([...model].map(([id, { key, state, attempts }]) => ({ id, key, state, attempts })))
      }
    }),
    { numRuns: 60, seed: 11 },
  )
})

function stateOf({ id, key, state, attempts }: Job) {
  return { id, key, state, attempts }
}
