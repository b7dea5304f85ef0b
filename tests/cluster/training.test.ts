// Trainings across machines, with real processes and a real Redis: workers that are killed, that join, that lose Redis,
// against the same training in one process.
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openGroup } from '#flyweight/cluster/group.js'
import type { JobMessage, JobTask } from '#flyweight/jobs/job-process.js'
import { runTrainJob, type TrainJobResult, type TrainPayload } from '#flyweight/jobs/train-job.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { inspectModel } from '#flyweight/runtime/probation.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import { openCoordinator } from '#flyweight/train/parallel/coordinator.js'
import { threadRanks } from '#flyweight/train/parallel/thread-ranks.js'
import type { Ranks } from '#flyweight/train/parallel/ranks.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import type { TrainState } from '#flyweight/train/step-engine.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { carriedBy } from '#flyweight/train/step.js'
import { train, type TrainNews } from '#flyweight/train/trainer.js'
import { noise } from '../onnx/running.js'
import { roundsOf, startWorker, twoMachines, type WorkerProcess } from './processes.js'
import { keysIn, missing, startRedis, until, type RedisServer } from './redis-server.js'

const ROWS = 600
const points = noise([ROWS, 2], 3).data as Float32Array<ArrayBuffer>
/** Inside or outside of a circle: no line tells them apart. */
const labels = BigInt64Array.from({ length: ROWS }, (_, row) => BigInt(Math.hypot(points[2 * row] as number, points[2 * row + 1] as number) < 0.75 ? 1 : 0))
const model = buildNetwork({ kind: 'mlp', hidden: [24] }, { input: { name: 'x', dims: [2] }, output: { name: 'scores', classes: 2 } }, 1)
const STEPS_A_ROUND = 5

let cleanups: (() => unknown)[]
beforeEach(() => void (cleanups = []))
afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup()
})

async function redisServer(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const redis = await startRedis(options)
  cleanups.push(() => redis.stop())
  return redis
}

function worker(url: string, { group = 'lab', within }: { group?: string; within?: readonly string[] } = {}): WorkerProcess {
  const started = startWorker(['--redis', url, '--group', group], within)
  cleanups.push(async () => {
    started.process.kill('SIGKILL')
    await started.ended
  })
  return started
}

interface Steps {
  /** The next round's news. */
  round(): Promise<TrainNews>
  state(): TrainState
  ranks?: Ranks
}

/** A training that goes on by a round of five steps whenever it is told. */
async function training(parallel: object, redis?: RedisServer): Promise<Steps> {
  const settings = completeSettings({ batchSize: 30, learningRate: 0.02, parallel })
  const step = { settings, prediction: 'scores', labelled: true }
  const ranks = redis === undefined ? undefined : await openGroup(threadRanks(settings.parallel.data), settings.parallel, { redis: redis.url, log: () => {} })
  const news = train({
    model,
    data: {
      rows: ROWS,
      read: (rows) => ({
        x: { dtype: 'float32', dims: [rows.length, 2], data: Float32Array.from(rows.flatMap((row) => [...points.subarray(2 * row, 2 * row + 2)])) },
        labels: { dtype: 'int64', dims: [rows.length], data: BigInt64Array.from(rows, (row) => labels[row] as bigint) },
      }),
    },
    ...stepOptions(step),
    learningRate: () => settings.learningRate,
    batchSize: settings.batchSize,
    steps: 1000,
    newsEvery: STEPS_A_ROUND,
    seed: 3,
    threads: 1,
    ...(ranks === undefined
      ? {}
      : {
          openEngine: (form) =>
            openCoordinator({ ranks, plan: { model: encodeModel(model), step, threads: 1 }, state: carriedBy({ ...stepOptions(step), form }), waitMs: 60_000 }),
        }),
  })
  cleanups.push(() => news.return())
  let last = (await news.next()).value as TrainNews
  const round = async () => (last = (await news.next()).value as TrainNews)
  return { round, state: () => last.state, ...(ranks === undefined ? {} : { ranks }) }
}

const isReady = ({ events }: WorkerProcess) => events.at(-1)?.event === 'ready'
const present = ({ ranks }: Steps) => ranks?.links.size
const parametersOf = (steps: Steps) => steps.state().vectors['parameters'] as Float32Array

function largestDifference(one: Float32Array, other: Float32Array): number {
  expect(one).toHaveLength(other.length)
  return one.reduce((most, value, at) => Math.max(most, Math.abs(value - (other[at] as number))), 0)
}

/** What one process makes of the same steps. */
async function alone(rounds: number): Promise<Float32Array> {
  const steps = await training({})
  for (let round = 0; round < rounds; round++) await steps.round()
  return parametersOf(steps)
}

describe.skipIf(missing !== undefined)('a training across machines', () => {
  it('comes to what one process comes to, with a worker killed, one that joins, and Redis started anew', async () => {
    let redis = await redisServer()
    const [one, two] = [worker(redis.url), worker(redis.url)]
    const steps = await training({ data: 0, group: 'lab' }, redis)
    await until(() => present(steps) === 2)
    await steps.round()
    await steps.round()
    // In the middle of a round: its rows are divided over both.
    const round = steps.round()
    one.process.kill('SIGKILL')
    await round
    expect(present(steps)).toBe(1)
    const three = worker(redis.url)
    await until(() => present(steps) === 2 && isReady(three))
    await steps.round()
    await redis.stop()
    const port = Number(new URL(redis.url).port)
    redis = await redisServer({ port })
    await until(() => present(steps) === 2 && isReady(two) && isReady(three))
    await steps.round()
    expect(largestDifference(parametersOf(steps), await alone(5))).toBeLessThan(1e-5)

    await steps.ranks?.release()
    for (const { process: child } of [two, three]) child.kill('SIGTERM')
    expect(await Promise.all([one.ended, two.ended, three.ended])).toEqual([null, 0, 0])
    // Redis may be asked for the round before it has the word of both.
    expect((roundsOf(two) ?? 0) + (roundsOf(three) ?? 0)).toBeGreaterThan(0)
    expect(three.events.map(({ event }) => event)).toEqual(['connected', 'joined', 'ready', 'left', 'disconnected', 'connected', 'joined', 'ready', 'left'])
    expect(await keysIn(redis.url)).toEqual([])
  })

  it('goes on when Redis is lost in the middle of a round', async () => {
    const redis = await redisServer()
    worker(redis.url)
    const steps = await training({ data: 1, group: 'lab' }, redis)
    await until(() => present(steps) === 2)
    await steps.round()
    const round = steps.round()
    await redis.stop()
    await round
    expect(present(steps)).toBe(1)
    expect(largestDifference(parametersOf(steps), await alone(2))).toBeLessThan(1e-5)
  })

  it('may send gradients as halves', async () => {
    const redis = await redisServer()
    worker(redis.url)
    const steps = await training({ data: 1, group: 'lab', wire: 'fp16' }, redis)
    await until(() => present(steps) === 2)
    for (let round = 0; round < 4; round++) await steps.round()
    const difference = largestDifference(parametersOf(steps), await alone(4))
    expect(difference).toBeGreaterThan(1e-7)
    expect(difference).toBeLessThan(1e-2)
  })

  it.each([
    ['fp32', { syncEvery: 3, outer: {} }],
    ['fp32', { shardOptimizer: true }],
    ['fp16', { syncEvery: 3, outer: {} }],
  ])('makes of %s and %j what threads make', async (wire, mode) => {
    const redis = await redisServer()
    const threads = await training({ data: 2, group: 'lab', ...mode }, redis)
    for (let round = 0; round < 3; round++) await threads.round()
    worker(redis.url, { group: 'other' })
    const steps = await training({ data: 1, group: 'other', wire, ...mode }, redis)
    await until(() => present(steps) === 2)
    for (let round = 0; round < 3; round++) await steps.round()
    expect(present(steps)).toBe(2)
    if (wire === 'fp32') expect(steps.state()).toEqual(threads.state())
    const difference = largestDifference(parametersOf(steps), parametersOf(threads))
    // Movements are rounded, parameters are not.
    expect(difference).toBeLessThan(1e-3)
    if (wire === 'fp16') expect(difference).toBeGreaterThan(1e-7)
  })
})

describe.skipIf(missing !== undefined)('a job on two machines', () => {
  it('ends as well as one that is not disturbed when a worker is killed', async ({ annotate }) => {
    const machines = twoMachines()
    cleanups.push(machines.remove)
    await annotate(`on ${machines.description}`)
    console.log(`the machines are ${machines.description}`)
    const [here, there] = machines.within
    const redis = await redisServer({ host: machines.host, within: here })
    const payload = await job({ data: 1, group: 'lab' })
    const workers = [worker(redis.url, { within: there }), worker(redis.url, { within: there })]

    const [command, ...args] = [...here, process.execPath, fileURLToPath(new URL('../../dist/jobs/job-process.js', import.meta.url))]
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    cleanups.push(() => child.kill('SIGKILL'))
    const lines: string[] = []
    const ended = new Promise<JobMessage>((resolve) => {
      child.on('message', (message: JobMessage) => {
        if ('result' in message || 'error' in message) resolve(message)
        if (!('progress' in message) || message.logLine === undefined) return
        lines.push(message.logLine)
        if (workers.every(({ events }) => events.some(({ event }) => event === 'ready')) && !workers[0]?.process.killed) workers[0]?.process.kill('SIGKILL')
      })
    })
    child.send({ kind: 'train', payload, redis: redis.url } satisfies JobTask)
    const message = await ended
    const { result } = message as { result: TrainJobResult }
    expect(message).toHaveProperty('result')
    expect(lines.filter((line) => line.endsWith(' joined'))).toHaveLength(2)
    expect(lines.filter((line) => line.endsWith(' left: it gives no sign of life'))).toHaveLength(1)
    await until(() => workers[1]?.events.some(({ event }) => event === 'left') === true)
    expect(roundsOf(workers[1] as WorkerProcess)).toBeGreaterThan(3)

    const undisturbed = await runTrainJob(await job({}), { report: () => {}, log: () => {}, publish: () => {}, signal: new AbortController().signal })
    expect(result.best.heldOut.accuracy).toBeGreaterThan(0.9)
    expect(result.curve).toHaveLength(undisturbed.curve.length)
    for (const [at, point] of result.curve.entries()) {
      expect(point.heldOut.accuracy).toBeCloseTo(undisturbed.curve[at]?.heldOut.accuracy as number, 1)
      expect(point.heldOut.loss).toBeCloseTo(undisturbed.curve[at]?.heldOut.loss as number, 2)
    }
  })

  async function job(parallel: object): Promise<TrainPayload> {
    const folder = await mkdtemp(join(tmpdir(), 'cluster-job-'))
    cleanups.push(() => rm(folder, { recursive: true }))
    const [sourceFile, data] = [join(folder, 'model.onnx'), join(folder, 'rows.npz')]
    await writeFile(sourceFile, encodeModel(model))
    await writeFile(
      data,
      writeNpz(
        new Map([
          ['x', { dtype: 'float32', dims: [ROWS, 2], data: points }],
          ['labels', { dtype: 'int64', dims: [ROWS], data: labels }],
        ]),
      ),
    )
    return {
      model: 'm',
      version: '1',
      sourceFile,
      sourceDigest: 'digest',
      signature: (await inspectModel(sourceFile)).signature,
      data,
      settings: completeSettings({ epochs: 25, batchSize: 30, learningRate: 0.02, holdOut: 0.25, parallel }),
      as: 'm',
      threads: 1,
      storeRoot: join(folder, 'store'),
    }
  }
})
