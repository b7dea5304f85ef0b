// Runs a sharded model: micro-batches of all runs pass through its stages, each as soon as what it reads is there and
// its device is free. Bounded: no more micro-batches are under way than were allowed.
import { FlyweightError, messageOf } from '../errors.js'
import { freeBuffers, freeOutputs } from '../runtime/free-outputs.js'
import type { LaneRun } from '../runtime/lane.js'
import { BufferPool, isPooled } from '../tensor/buffer-pool.js'
import { byteSize, type Tensor } from '../tensor/tensor.js'
import { cutRows, microBatches, placeRows, sharedRows } from './micro-batches.js'
import { routeOf, type Route, type StageIo } from './routes.js'
import type { StageHost } from './stage-host.js'
import { StageValues } from './stage-values.js'

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
  onStageRun?(run: StageRun): void
}

/** Runs a host has at a time: one that it computes, and one that waits there, so that it need not wait for the next. */
const RUNS_PER_HOST = 2
/** Memory of micro-batches kept for the next ones. */
const POOLED_BYTES = 16 * 2 ** 20

interface Run {
  feeds: Readonly<Record<string, Tensor>>
  route: Route
  rows: number
  /** Those that are not under way yet. */
  waiting: { first: number; rows: number }[]
  /** Those whose outputs are not there yet. */
  left: number
  /** One micro-batch is all of it: its buffers move instead of being copied. */
  whole: boolean
  outputs: Record<string, Tensor>
  spent: ArrayBuffer[]
  startedAt: number
  settled: boolean
  resolve(run: LaneRun): void
  reject(error: FlyweightError): void
}

interface MicroBatch {
  run: Run
  /** Older ones go first. */
  order: number
  first: number
  rows: number
  values: StageValues
  /** Stages that have not answered → how many values they wait for. */
  missing: Map<number, number>
  /** Runs of it that hosts have. */
  running: number
}

interface Ready {
  batch: MicroBatch
  stage: number
  since: number
}

/** A host, and what waits for it. */
interface Seat {
  host: StageHost
  ready: Ready[]
  running: number
  lost: string | undefined
  forget(): void
}

export class Pipeline {
  readonly #options: PipelineOptions
  readonly #stages: PipelineStage[]
  readonly #seats = new Map<StageHost, Seat>()
  readonly #runs: Run[] = []
  readonly #batches = new Set<MicroBatch>()
  readonly #pool = new BufferPool(POOLED_BYTES)
  readonly #limit: number
  #next = 0
  #closed = false

  /** @throws FlyweightError `invalid_plan` where a stage reads what nothing gives before it */
  constructor(options: PipelineOptions) {
    this.#options = options
    this.#stages = options.stages.map((stage) => ({ ...stage }))
    this.#limit = Math.max(1, options.inFlight ?? 2 * options.stages.length)
    routeOf(this.#stages, options)
    for (const { host } of this.#stages) this.#sit(host)
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
  run(feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[]): Promise<LaneRun> {
    return new Promise((resolve, reject) => {
      const { batchable, inputs, microBatch = Infinity } = this.#options
      const route = routeOf(this.#stages, this.#options, fetches)
      const read = inputs.filter((name) => readsOf(route, name) > 0)
      const absent = read.find((name) => feeds[name] === undefined)
      if (absent !== undefined) throw new FlyweightError('invalid_input', `input "${absent}" is missing, expected all of ${inputs.join(', ')}`)
      if (this.#closed) throw new FlyweightError('inference_failed', 'the pipeline is closed')
      for (const stage of route.stages.keys()) {
        const { host, lost } = this.#seatOf(stage)
        if (lost !== undefined) throw lostError(host, lost)
      }
      const rows = batchable ? sharedRows(feeds, read) : 1
      const waiting = batchable ? microBatches(rows, microBatch) : [{ first: 0, rows: 1 }]
      const whole = waiting.length === 1
      this.#runs.push({ feeds, route, rows, waiting, left: waiting.length, whole, outputs: {}, spent: [], startedAt: 0, settled: false, resolve, reject })
      this.#admit()
    })
  }

  /**
   * Puts another host, which has the stages loaded, in the place of one that is lost or to be left. Runs that were under
   * way go on where they are.
   */
  replace(old: StageHost, host: StageHost): void {
    this.#sit(host)
    for (const [index, stage] of this.#stages.entries()) if (stage.host === old) this.#stages[index] = { ...stage, host }
    const seat = this.#seats.get(old)
    if (seat?.lost === undefined) return
    seat.forget()
    this.#seats.delete(old)
  }

  /** Rejects all runs; hosts and the stages loaded on them are left as they are. */
  close(): void {
    this.#closed = true
    const error = new FlyweightError('inference_failed', 'the pipeline is closed')
    for (const run of [...this.#runs, ...[...this.#batches].map((batch) => batch.run)]) this.#fail(run, error)
    for (const seat of this.#seats.values()) seat.forget()
  }

  #sit(host: StageHost): void {
    if (this.#seats.has(host)) return
    const seat: Seat = { host, ready: [], running: 0, lost: undefined, forget: () => {} }
    this.#seats.set(host, seat)
    seat.forget = host.onLost((reason) => {
      seat.lost = reason
      this.#lose(seat, reason)
    })
  }

  #seatOf(stage: number): Seat {
    return this.#seats.get(this.#stages[stage]!.host)!
  }

  /** Fails the runs that have something on the host, or will need it. */
  #lose(seat: Seat, reason: string): void {
    const needs = (stages: Iterable<number>) => [...stages].some((stage) => this.#seatOf(stage) === seat)
    const error = lostError(seat.host, reason)
    for (const run of this.#runs.filter(({ route }) => needs(route.stages.keys()))) this.#fail(run, error)
    for (const { run, missing } of this.#batches) if (needs(missing.keys())) this.#fail(run, error)
  }

  /** Lets micro-batches in, of each run in turn. */
  #admit(): void {
    while (this.#batches.size < this.#limit) {
      const run = this.#runs.shift()
      const part = run?.waiting.shift()
      if (run === undefined || part === undefined) return
      if (run.waiting.length > 0) this.#runs.push(run)
      if (run.startedAt === 0) run.startedAt = performance.now()
      try {
        this.#begin(run, part)
      } catch (error) {
        this.#fail(run, asFlyweight(error))
      }
    }
  }

  #begin(run: Run, part: { first: number; rows: number }): void {
    const { route, feeds, whole } = run
    const missing = new Map([...route.stages.keys()].map((stage) => [stage, this.#stages[stage]!.inputs.length]))
    const batch: MicroBatch = { run, order: this.#next++, ...part, values: new StageValues(), missing, running: 0 }
    this.#batches.add(batch)
    const inputs = this.#options.inputs.filter((name) => readsOf(route, name) > 0)
    const values = inputs.map((name) => [name, whole ? feeds[name]! : cutRows(feeds[name]!, part, (bytes) => this.#pool.take(bytes))] as const)
    if (!whole && run.waiting.length === 0) run.spent.push(...pooled(feeds))
    for (const [stage, count] of missing) if (count === 0) this.#enqueue(batch, stage)
    this.#arrive(batch, values)
  }

  /** Takes in values of a micro-batch: stages that have all they read now wait for their host. */
  #arrive(batch: MicroBatch, values: readonly (readonly [string, Tensor])[]): void {
    const { route } = batch.run
    // All of them first: who shares a buffer must be known before it moves.
    for (const [name, tensor] of values) batch.values.put(name, tensor, readsOf(route, name))
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
    const seat = this.#seatOf(stage)
    seat.ready.push({ batch, stage, since: performance.now() })
    this.#dispatch(seat)
  }

  #dispatch(seat: Seat): void {
    while (seat.running < RUNS_PER_HOST && seat.ready.length > 0) {
      const next = seat.ready.reduce((first, each) => (each.batch.order < first.batch.order ? each : first))
      seat.ready.splice(seat.ready.indexOf(next), 1)
      void this.#runStage(seat, next)
    }
  }

  async #runStage(seat: Seat, { batch, stage, since }: Ready): Promise<void> {
    const { run } = batch
    const { key, inputs } = this.#stages[stage]!
    seat.running += 1
    batch.running += 1
    try {
      const feeds = batch.values.take(inputs)
      const inBytes = bytesOf(feeds)
      const { outputs, runMs, spent } = await seat.host.run(key, feeds, run.route.stages.get(stage)!.fetches)
      const waitMs = Math.max(0, performance.now() - since - runMs)
      this.#recycle(run, spent)
      batch.missing.delete(stage)
      const queued = seat.ready.filter((each) => each.stage === stage).length
      const told = { stage, key, host: seat.host.name, rows: batch.rows, busyMs: runMs, waitMs, inBytes, outBytes: bytesOf(outputs), queued }
      this.#options.onStageRun?.(told)
      if (run.settled) freeOutputs(outputs)
      else this.#arrive(batch, Object.entries(outputs))
    } catch (error) {
      this.#fail(run, asFlyweight(error))
    } finally {
      seat.running -= 1
      batch.running -= 1
      if (run.settled) this.#leave(batch)
      this.#dispatch(seat)
    }
  }

  /** All stages have answered: its outputs join those of the run. */
  #finish(batch: MicroBatch): void {
    const { run, first, rows } = batch
    const outputs = batch.values.take(run.route.outputs)
    if (run.whole) run.outputs = outputs
    else {
      placeRows(run.outputs, outputs, { first, rows, of: run.rows })
      freeOutputs(outputs)
    }
    run.left -= 1
    if (run.left === 0) {
      run.settled = true
      run.resolve({ outputs: run.outputs, runMs: performance.now() - run.startedAt, spent: run.spent })
    }
    this.#batches.delete(batch)
    this.#admit()
  }

  #fail(run: Run, error: FlyweightError): void {
    if (run.settled) return
    run.settled = true
    run.waiting = []
    if (this.#runs.includes(run)) this.#runs.splice(this.#runs.indexOf(run), 1)
    for (const seat of this.#seats.values()) seat.ready = seat.ready.filter(({ batch }) => batch.run !== run)
    for (const batch of this.#batches) if (batch.run === run) this.#leave(batch)
    run.reject(error)
  }

  /** A micro-batch of a run that failed counts until hosts are done with it. */
  #leave(batch: MicroBatch): void {
    batch.values.drop()
    if (batch.running > 0 || !this.#batches.delete(batch)) return
    this.#admit()
  }

  /** Memory that comes back: the caller's to him, that of micro-batches for the next ones, the runtime's is freed. */
  #recycle(run: Run, spent: readonly ArrayBuffer[]): void {
    for (const buffer of spent.filter(({ byteLength }) => isPooled(byteLength))) {
      if (run.whole && !run.settled) run.spent.push(buffer)
      else this.#pool.give(buffer)
    }
    freeBuffers(spent.filter(({ byteLength }) => !isPooled(byteLength)))
  }
}

function readsOf({ readers, outputs }: Route, name: string): number {
  return (readers.get(name)?.length ?? 0) + Number(outputs.includes(name))
}

function pooled(feeds: Readonly<Record<string, Tensor>>): ArrayBuffer[] {
  const buffers = Object.values(feeds).flatMap(({ data }) => (Array.isArray(data) ? [] : [data.buffer]))
  return [...new Set(buffers)].filter(({ byteLength }) => isPooled(byteLength))
}

function bytesOf(tensors: Readonly<Record<string, Tensor>>): number {
  return Object.values(tensors).reduce((sum, tensor) => sum + byteSize(tensor), 0)
}

function lostError(host: StageHost, reason: string): FlyweightError {
  return new FlyweightError('inference_failed', `device ${host.name} is gone: ${reason}`)
}

function asFlyweight(error: unknown): FlyweightError {
  return error instanceof FlyweightError ? error : new FlyweightError('internal', messageOf(error), { cause: error })
}
