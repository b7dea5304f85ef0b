// Runs a sharded model: micro-batches of all runs pass through its stages, each as soon as what it reads is there and
// its device is free. Bounded: no more micro-batches are under way than were allowed.
import { FlyweightError, messageOf } from '../errors.js'
import type { LaneRun } from '../runtime/lane.js'
import type { Tensor } from '../tensor/tensor.js'
import { DeviceQueue, type Work } from './device-queue.js'
import type { Rows } from './micro-batches.js'
import { PipelineRun } from './pipeline-run.js'
import { routeOf, type StageIo } from './routes.js'
import type { StageHost } from './stage-host.js'
import { named, StageValues } from './stage-values.js'
import { buffersOf, bytesOf, ValueMemory } from './value-memory.js'

export interface PipelineStage extends StageIo {
  /** Under which the host has loaded it. */
  key: string
  host: StageHost
}

/** What a stage did with one micro-batch. */
export interface StageRun {
  /** Index of the stage. */
  stage: number
  key: string
  host: string
  /** Rows of the micro-batch. */
  rows: number
  /** Inside the runtime. */
  busyMs: number
  /** From when all that it reads was there to the answer, without `busyMs`. */
  waitMs: number
  inBytes: number
  outBytes: number
  /** Micro-batches that wait for this stage now. */
  queued: number
}

export interface PipelineOptions extends StageIo {
  /** Any order in which values go forward. */
  stages: readonly PipelineStage[]
  /** All inputs and outputs of the whole have rows along the first axis; else each run is one micro-batch. */
  batchable: boolean
  /** Rows of a micro-batch at most; default: all of a run's. */
  microBatch?: number
  /** Micro-batches under way at most, over all runs; default two for each stage. */
  inFlight?: number
  /** Memory of values that is kept for the next ones at most; default 32 MiB. */
  memoryBytes?: number
  onStageRun?(run: StageRun): void
}

const MEMORY_BYTES = 32 * 2 ** 20

interface MicroBatch {
  run: PipelineRun
  /** Older ones go first. */
  order: number
  part: Rows
  values: StageValues
  /** Stages that have not answered → how many values they wait for. */
  missing: Map<number, number>
  /** Runs of it that wait for a device. */
  works: Set<Work>
  /** Those that devices have. */
  running: number
}

export class Pipeline {
  readonly #options: PipelineOptions
  readonly #stages: PipelineStage[]
  readonly #queues = new Map<StageHost, DeviceQueue>()
  /** Those with micro-batches that are not under way yet. */
  readonly #runs: PipelineRun[] = []
  readonly #batches = new Set<MicroBatch>()
  readonly #memory: ValueMemory
  /** By stage, what its last run gave, and how much it had read for that. */
  readonly #given = new Map<number, { inBytes: number; sizes: number[] }>()
  readonly #limit: number
  #next = 0
  #closed = false

  /** @throws FlyweightError `invalid_plan` where a stage reads what nothing gives before it */
  constructor(options: PipelineOptions) {
    this.#options = options
    this.#stages = options.stages.map((stage) => ({ ...stage }))
    this.#limit = Math.max(1, options.inFlight ?? 2 * options.stages.length)
    this.#memory = new ValueMemory(options.memoryBytes ?? MEMORY_BYTES)
    routeOf(this.#stages, options)
    for (const { host } of this.#stages) this.#watch(host)
  }

  /** Micro-batches under way. */
  get inFlight(): number {
    return this.#batches.size
  }

  /**
   * Runs one batch: of several at once each gets its turn. The feeds' ArrayBuffers may move: the caller's arrays may be
   * empty afterwards. `runMs` is the time from its first micro-batch's start to its last's end, waiting included.
   * @throws FlyweightError `invalid_input` for feeds that do not fit, else what a stage threw; `inference_failed` where a
   *   host that it still needs is lost
   */
  async run(feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[]): Promise<LaneRun> {
    const { batchable, inputs, microBatch = Infinity } = this.#options
    const route = routeOf(this.#stages, this.#options, fetches)
    if (this.#closed) throw closedError()
    for (const stage of route.stages.keys()) {
      const { host, lost } = this.#queueOf(stage)
      if (lost !== undefined) throw lostError(host, lost)
    }
    const run = new PipelineRun({ feeds, route, inputs, batchable, microBatch, memory: this.#memory })
    this.#runs.push(run)
    this.#admit()
    return run.result
  }

  /**
   * Puts another host, which has the stages loaded, in the place of one that is lost or to be left. Runs that were under
   * way go on where they are.
   */
  replace(old: StageHost, host: StageHost): void {
    this.#watch(host)
    for (const [index, stage] of this.#stages.entries()) if (stage.host === old) this.#stages[index] = { ...stage, host }
    this.#queues.get(old)?.forget()
    this.#queues.delete(old)
  }

  /** Rejects all runs; hosts and the stages loaded on them are left as they are. */
  close(): void {
    this.#closed = true
    for (const run of [...this.#runs, ...[...this.#batches].map((batch) => batch.run)]) this.#fail(run, closedError())
    for (const queue of this.#queues.values()) queue.forget()
  }

  /** Hosts that have been on one run for longer than this: whoever gives up on a run closes these. */
  hung(longerThanMs: number): StageHost[] {
    const now = performance.now()
    return [...this.#queues.values()].filter((queue) => queue.busyMs(now) > longerThanMs).map(({ host }) => host)
  }

  #watch(host: StageHost): void {
    if (!this.#queues.has(host)) this.#queues.set(host, new DeviceQueue(host, (queue, reason) => this.#lose(queue, reason)))
  }

  #queueOf(stage: number): DeviceQueue {
    return this.#queues.get(this.#stages[stage]!.host)!
  }

  /** Fails the runs that have something on the host, or will need it. */
  #lose({ host }: DeviceQueue, reason: string): void {
    const needs = (stages: Iterable<number>) => [...stages].some((stage) => this.#stages[stage]!.host === host)
    const error = lostError(host, reason)
    for (const run of this.#runs.filter(({ route }) => needs(route.stages.keys()))) this.#fail(run, error)
    for (const { run, missing } of this.#batches) if (needs(missing.keys())) this.#fail(run, error)
  }

  /** Lets micro-batches in, of each run in turn. */
  #admit(): void {
    while (this.#batches.size < this.#limit) {
      const run = this.#runs.shift()
      if (run === undefined) return
      try {
        this.#begin(run)
      } catch (error) {
        this.#fail(run, asFlyweight(error))
      }
    }
  }

  #begin(run: PipelineRun): void {
    const next = run.next()
    if (next === undefined) return
    if (run.waiting > 0) this.#runs.push(run)
    const missing = new Map([...run.route.stages.keys()].map((stage) => [stage, this.#stages[stage]!.inputs.length]))
    const batch: MicroBatch = { run, order: this.#next++, part: next.part, values: new StageValues(), missing, works: new Set(), running: 0 }
    this.#batches.add(batch)
    for (const [stage, count] of missing) if (count === 0) this.#enqueue(batch, stage)
    this.#arrive(batch, next.values)
  }

  /** Takes in values of a micro-batch: stages that have all they read now wait for their host. */
  #arrive(batch: MicroBatch, values: readonly (readonly [string, Tensor])[]): void {
    const { route } = batch.run
    // All of them first: who shares a buffer must be known before it moves.
    for (const [name, tensor] of values) batch.values.put(name, tensor, route.reads.get(name) ?? 0)
    for (const [name] of values) {
      for (const stage of route.readers.get(name) ?? []) {
        const left = batch.missing.get(stage)! - 1
        batch.missing.set(stage, left)
        if (left === 0) this.#enqueue(batch, stage)
      }
    }
    if (batch.missing.size === 0) this.#finish(batch)
  }

  #enqueue(batch: MicroBatch, stage: number): void {
    const queue = this.#queueOf(stage)
    const since = performance.now()
    const work: Work = {
      order: batch.order,
      stage,
      start: () => {
        batch.works.delete(work)
        return this.#runStage(queue, { batch, stage, since })
      },
    }
    batch.works.add(work)
    queue.add(work)
  }

  async #runStage(queue: DeviceQueue, { batch, stage, since }: { batch: MicroBatch; stage: number; since: number }): Promise<void> {
    const { run, part } = batch
    const { key, inputs, outputs: all } = this.#stages[stage]!
    const { fetches } = run.route.stages.get(stage)!
    batch.running += 1
    try {
      const feeds = batch.values.take(inputs)
      const inBytes = bytesOf(feeds)
      const offered = this.#offer(stage, inBytes)
      const { outputs, runMs, spent } = await queue.host.run(key, feeds, fetches, offered)
      const waitMs = Math.max(0, performance.now() - since - runMs)
      run.recycle(spent)
      // What did not move is still here.
      this.#memory.give(offered)
      this.#given.set(stage, { inBytes, sizes: buffersOf(outputs).map(({ byteLength }) => byteLength) })
      batch.missing.delete(stage)
      const told = {
        stage,
        key,
        host: queue.host.name,
        rows: part.rows,
        busyMs: runMs,
        waitMs,
        inBytes,
        outBytes: bytesOf(outputs),
        queued: queue.depth(stage),
      }
      this.#options.onStageRun?.(told)
      if (run.settled) this.#memory.give(buffersOf(outputs))
      else this.#arrive(batch, named(outputs, fetches ?? all))
    } catch (error) {
      this.#fail(run, asFlyweight(error))
    } finally {
      batch.running -= 1
      if (run.settled) this.#leave(batch)
    }
  }

  /** Memory for what the stage will give, if it gives as much as the last time that it read as much. */
  #offer(stage: number, inBytes: number): ArrayBuffer[] {
    const last = this.#given.get(stage)
    return last?.inBytes === inBytes ? last.sizes.flatMap((size) => this.#memory.take(size) ?? []) : []
  }

  /** All stages have answered: its outputs join those of the run. */
  #finish(batch: MicroBatch): void {
    const { run, part, values } = batch
    run.collect(part, values.take(run.route.outputs))
    this.#batches.delete(batch)
    this.#admit()
  }

  #fail(run: PipelineRun, error: FlyweightError): void {
    if (run.settled) return
    run.fail(error)
    if (this.#runs.includes(run)) this.#runs.splice(this.#runs.indexOf(run), 1)
    for (const batch of this.#batches) if (batch.run === run) this.#leave(batch)
  }

  /** A micro-batch of a run that failed counts until hosts are done with it. */
  #leave(batch: MicroBatch): void {
    for (const queue of this.#queues.values()) queue.remove(batch.works)
    batch.works.clear()
    batch.values.drop()
    if (batch.running > 0 || !this.#batches.delete(batch)) return
    this.#admit()
  }
}

function closedError(): FlyweightError {
  return new FlyweightError('inference_failed', 'the pipeline is closed')
}

function lostError(host: StageHost, reason: string): FlyweightError {
  return new FlyweightError('inference_failed', `device ${host.name} is gone: ${reason}`)
}

function asFlyweight(error: unknown): FlyweightError {
  return error instanceof FlyweightError ? error : new FlyweightError('internal', messageOf(error), { cause: error })
}
