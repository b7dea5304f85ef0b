// Jobs in their processes, with the real kinds of job on the digits model: success, failure, crash,
// cancellation, a gateway that stops and one that is killed.
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import type { CompressPayload, CompressResult } from '#flyweight/jobs/compress-job.js'
import type { ProfilePayload, ProfileResult } from '#flyweight/jobs/profile-job.js'
import type { Job, JobState } from '#flyweight/jobs/queue.js'
import { JobRunner } from '#flyweight/jobs/runner.js'
import type { SearchPayload } from '#flyweight/jobs/search-job.js'
import { SqliteQueue } from '#flyweight/jobs/sqlite-queue.js'
import { ArtifactStore } from '#flyweight/registry/artifact-store.js'
import { openSession } from '#flyweight/runtime/session.js'

const digits = fileURLToPath(new URL('../fixtures/digits_cnn.onnx', import.meta.url))
const signature = {
  inputs: [{ name: 'x', dtype: 'float32' as const, dims: ['n', 1, 28, 28] }],
  outputs: [{ name: 'logits', dtype: 'float32' as const, dims: ['n', 10] }],
  batchable: true,
  opset: 20,
  parameters: 98442,
  operators: {},
}
const profileOf = (budgetMs: number): ProfilePayload => ({ file: digits, signature, batches: [4, 1], device: 'cpu', threads: 1, machine: 'here', budgetMs })
const SHORT = profileOf(50)
/** Takes longer than a test may, unless something ends it. */
const LONG: ProfilePayload = { ...profileOf(60_000), batches: Array.from({ length: 200 }, (_, index) => 512 + index) }
const onLinux = process.platform === 'linux'

let directory: string
let queue: SqliteQueue
let runner: JobRunner
let applied: { job: string; result: unknown }[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flyweight-runner-'))
  queue = new SqliteQueue(join(directory, 'jobs.db'))
  applied = []
  runner = makeRunner()
  runner.start()
})
afterEach(async () => {
  await runner.stop()
  queue.close()
  rmSync(directory, { recursive: true })
})

function makeRunner(apply?: (job: Job, result: unknown) => unknown): JobRunner {
  const record = (job: Job, result: unknown) => {
    expect(queue.get(job.id).state).toBe('running')
    applied.push({ job: job.id, result })
    return result
  }
  return new JobRunner({ queue, apply: apply ?? record, log: { info: () => undefined, warn: () => undefined } })
}

function compressOf(request: unknown): CompressPayload {
  return {
    ...{ model: 'digits', version: '1', variantName: 'small', sourceFile: digits, sourceDigest: 'd', signature, request },
    ...{ device: 'cpu', threads: 1, machine: 'here', batches: [1], profileBudgetMs: 50, minFidelity: 0.9, storeRoot: join(directory, 'artifacts') },
  }
}

async function until(id: string, condition: (job: Job) => boolean): Promise<Job> {
  return new Promise((resolve) => {
    const check = (job: Job) => {
      if (!condition(job)) return false
      unwatch()
      resolve(job)
      return true
    }
    const unwatch = queue.watch(id, check)
    check(queue.get(id))
  })
}
const ended = (id: string) => until(id, ({ state }) => state !== 'queued' && state !== 'running')
const busy = (id: string) => until(id, ({ state, progress }) => state === 'running' && progress.step.startsWith('measuring batch'))

/** Process ids of job processes below `parent`. */
function jobProcesses(parent = process.pid): number[] {
  return readdirSync(`/proc/${parent}/task`)
    .flatMap((thread) => readFileSync(`/proc/${parent}/task/${thread}/children`, 'utf8').split(' '))
    .filter((pid) => pid !== '' && commandOf(Number(pid)).includes('job-process.js'))
    .map(Number)
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

const gone = async (pid: number) => {
  while (commandOf(pid) !== '') await new Promise((resolve) => setTimeout(resolve, 10))
}

test('a profile job measures every batch size, tells its progress, and its result is applied before it counts', async () => {
  const steps = new Set<string>()
  const { id } = queue.submit('profile', SHORT, { key: 'p' })
  queue.watch(id, ({ progress }) => steps.add(progress.step))
  const job = await ended(id)
  expect(job).toMatchObject({ state: 'succeeded', progress: { fraction: 1 }, attempts: 1 })
  const { profile } = job.result as ProfileResult
  expect(profile).toMatchObject({ machine: 'here', device: 'cpu', rowDims: { x: [1, 28, 28] } })
  expect(profile.latencies.map(({ batch }) => batch)).toEqual([1, 4])
  expect(profile.residentBytes).toBeGreaterThan(0)
  expect(applied).toEqual([{ job: id, result: job.result }])
  expect([...steps]).toEqual(expect.arrayContaining(['reading samples', 'measuring memory', 'measuring batch 1', 'measuring batch 4', 'done']))
})

test('a compress job stores an artifact that loads, and its report', async () => {
  const job = await ended(queue.submit('compress', compressOf('fp16'), { key: 'c' }).id)
  expect(job).toMatchObject({ state: 'succeeded', error: undefined })
  const { variant, report } = job.result as CompressResult
  expect(variant).toMatchObject({ id: 'digits:1:small', source: false, sizeOnly: true, recipe: [{ pass: 'fp16' }] })
  const store = new ArtifactStore(join(directory, 'artifacts'))
  expect(await store.verify(variant.digest)).toBe(true)
  expect(store.readReport(variant.digest)).toEqual(report)
  const session = await openSession(variant.file)
  expect(session.inputs.map(({ name, dtype }) => ({ name, dtype }))).toEqual([{ name: 'x', dtype: 'float32' }])
  await session.release()
})

test('the preset int8 calibrates on the samples, compares labels, explains itself, and gives the same artifact again', async () => {
  const samplesDir = fileURLToPath(new URL('../../models/digits/samples', import.meta.url))
  const payload = { ...compressOf('int8'), samplesDir, batches: [4, 1] }
  const job = await ended(queue.submit('compress', payload, { key: 'c' }).id)
  expect(job).toMatchObject({ state: 'succeeded', error: undefined })
  const { variant, report } = job.result as CompressResult
  expect(variant).toMatchObject({ recipe: [{ pass: 'int8-static' }], fidelity: { synthetic: false } })
  // Which of the two depends on what this machine measured.
  expect(['ready', 'rejected']).toContain(variant.state)
  expect(variant.reason === '').toBe(variant.state === 'ready')
  expect(variant.fidelity.score).toBeGreaterThan(0.9)
  expect(variant.fidelity.accuracy?.variant).toBeGreaterThan(0.9)
  expect(variant.profile?.latencies.map(({ batch }) => batch)).toEqual([1, 4])
  expect(report).toMatchObject({ chosenBecause: expect.stringContaining('3 convolutions'), gate: { finite: true, reason: expect.stringMatching(/\w/) } })
  const decided = new Set(report.nodes.map(({ node }) => node))
  expect(decided.size).toBeGreaterThan(0)
  for (const { reason } of report.nodes) expect(reason).not.toBe('')
  const again = await ended(queue.submit('compress', payload, { key: 'c' }).id)
  expect((again.result as CompressResult).variant.digest).toBe(variant.digest)
  expect(readdirSync(join(directory, 'artifacts')).sort()).toEqual(['.tmp', variant.digest])
  expect(readdirSync(join(directory, 'artifacts/.tmp'))).toEqual([])
})

test('a variant that the gate turns down is a result with its reason, not a failure', async () => {
  const job = await ended(queue.submit('compress', { ...compressOf('fp16'), minFidelity: 1.1 }, { key: 'c' }).id)
  expect(job.state).toBe('succeeded')
  expect((job.result as CompressResult).variant).toMatchObject({ state: 'rejected', reason: expect.stringContaining('fidelity') })
})

test('an error keeps its code; an apply that throws fails the job', async () => {
  const wrong = await ended(queue.submit('compress', compressOf('no-such-pass'), { key: 'wrong' }).id)
  expect(wrong).toMatchObject({ state: 'failed', error: { code: 'invalid_recipe' } })
  await runner.stop()
  runner = makeRunner(() => {
    throw new Error('the catalog is full')
  })
  runner.start()
  const unapplied = await ended(queue.submit('profile', SHORT, { key: 'p' }).id)
  expect(unapplied).toMatchObject({ state: 'failed', error: { code: 'internal', detail: 'the catalog is full' } })
})

test('news that cannot be applied fail the job and end its process', async () => {
  await runner.stop()
  const applyNews = () => {
    throw new FlyweightError('conflict', 'the model was replaced')
  }
  runner = new JobRunner({ queue, apply: (_, result) => result, applyNews, log: { info: () => undefined, warn: () => undefined } })
  runner.start()
  const { variantName: _, request: __, profileBudgetMs: ___, ...subject } = compressOf('auto')
  const payload: SearchPayload = { ...subject, budgetSeconds: 5, present: [] }
  expect(await ended(queue.submit('search', payload, { key: 's' }).id)).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
  const next = await ended(queue.submit('profile', SHORT, { key: 'p' }).id)
  expect(next.state).toBe('succeeded')
})

describe.runIf(onLinux).each(['SIGSEGV', 'SIGKILL'] as const)('a process that ends by %s', (signal) => {
  test('fails its job with the signal, and the next job runs', async () => {
    const { id } = queue.submit('profile', LONG, { key: 'long' })
    const next = queue.submit('profile', SHORT, { key: 'short' })
    await busy(id)
    expect(queue.get(next.id).state).toBe('queued')
    process.kill(jobProcesses()[0] as number, signal)
    expect(await ended(id)).toMatchObject({
      state: 'failed',
      error: { code: 'internal', detail: expect.stringContaining(`crashed (signal ${signal}) while measuring batch 512`) },
    })
    expect(await ended(next.id)).toMatchObject({ state: 'succeeded' })
  })
})

test.runIf(onLinux)('cancelling ends the process and leaves nothing applied', async () => {
  const { id } = queue.submit('profile', LONG, { key: 'long' })
  const waiting = queue.submit('profile', LONG, { key: 'waiting' })
  await busy(id)
  const [pid = 0] = jobProcesses()
  expect(queue.cancel(waiting.id).state).toBe('cancelled')
  expect(queue.cancel(id).state).toBe('cancelled')
  await gone(pid)
  expect(applied).toEqual([])
  const after = queue.submit('profile', SHORT, { key: 'after' })
  expect(await ended(after.id)).toMatchObject({ state: 'succeeded' })
  expect(queue.get(id).state).toBe('cancelled')
})

test.runIf(onLinux)('a gateway that stops puts its jobs back, and the next one finishes them', async () => {
  const { id } = queue.submit('profile', SHORT, { key: 'p' })
  await until(id, ({ state }) => state === 'running')
  await runner.stop()
  expect(jobProcesses()).toEqual([])
  expect(queue.get(id)).toMatchObject({ state: 'queued', attempts: 0 })
  runner.start()
  expect(await ended(id)).toMatchObject({ state: 'succeeded', attempts: 1 })
})

test.runIf(onLinux)('a gateway killed with −9 takes its job processes along, and its job runs again', async () => {
  await runner.stop()
  queue.close()
  const file = join(directory, 'jobs.db')
  const gateway = spawn(process.execPath, ['--input-type=module', '--eval', GATEWAY, file, JSON.stringify(LONG)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise((resolve) => gateway.stdout.once('data', resolve))
  const [pid = 0] = jobProcesses(gateway.pid)
  expect(pid).toBeGreaterThan(0)
  const exited = new Promise((resolve) => gateway.once('exit', resolve))
  gateway.kill('SIGKILL')
  await exited
  await gone(pid)

  queue = new SqliteQueue(file)
  const states: JobState[] = queue.list().map(({ state }) => state)
  expect(states).toEqual(['queued'])
  runner = makeRunner()
  runner.start()
  const id = queue.list()[0]?.id as string
  expect(await busy(id)).toMatchObject({ state: 'running', attempts: 2 })
  queue.cancel(id)
})

/** A gateway reduced to its jobs; says when its job is under way. */
const GATEWAY = `
  const { SqliteQueue } = await import(${JSON.stringify(new URL('../../dist/jobs/sqlite-queue.js', import.meta.url).href)})
  const { JobRunner } = await import(${JSON.stringify(new URL('../../dist/jobs/runner.js', import.meta.url).href)})
  const queue = new SqliteQueue(process.argv[1])
  new JobRunner({ queue, apply: (_, result) => result, log: { info() {}, warn() {} } }).start()
  const { id } = queue.submit('profile', JSON.parse(process.argv[2]), { key: 'p' })
  queue.watch(id, ({ progress }) => { if (progress.step.startsWith('measuring batch')) console.log('busy') })
`
