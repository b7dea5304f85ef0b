// Sees one batch through: variant into memory, rows collated, run on the lane, rows handed back.
// Here failures are contained: a bad row fails alone, a lost lane's requests get one more try.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { FlyweightError, messageOf } from '../errors.js'
import type { Variant, VariantState } from '../registry/model.js'
import { freeOutputs } from '../runtime/free-outputs.js'
import type { LaneRun } from '../runtime/lane.js'
import { BufferPool } from '../tensor/buffer-pool.js'
import { bytesOf, concatenate, split } from './collate.js'
import type { LatencyBook } from './latency-book.js'
import type { Answered, Entry, ModelQueue } from './model-queue.js'
import type { ServingObserver } from './observer.js'
import type { Runner } from './runner.js'
import type { Slots } from './slots.js'
import type { Placement, VariantCache } from './variant-cache.js'
import { residentBytesOf } from './variant-cost.js'

export interface Batch {
  queue: ModelQueue
  /** Number of the slot. */
  lane: number
  members: readonly Entry[]
  rows: number
  variant: Variant
  reason: string
}

export interface ExecutorOptions {
  slots: Slots
  cache: VariantCache
  book: LatencyBook
  observer: ServingObserver
  runTimeoutMs: number
  setState(variant: Variant, state: VariantState, reason: string): void
}

/** Of batches that have run, kept for the next ones: a few of the largest usual ones. */
const POOLED_BYTES = 32 * 2 ** 20

/** Lanes a variant may take down before it is quarantined. */
const LETHAL = 2

export class Executor {
  readonly #options: ExecutorOptions
  readonly #kills = new Map<string, number>()
  readonly #buffers = new BufferPool(POOLED_BYTES)

  constructor(options: ExecutorOptions) {
    this.#options = options
  }

  /** Never rejects: every member is answered, refused or put back. */
  async execute(batch: Batch): Promise<void> {
    const { queue, members, variant, lane } = batch
    queue.inFlight += members.length
    try {
      const { release } = await this.#options.cache.acquire(this.#placement(variant, lane))
      try {
        await this.#runBatch(batch)
      } finally {
        release()
      }
    } catch (error) {
      this.#loadFailed(batch, asFlyweight(error))
    } finally {
      queue.inFlight -= members.length
    }
  }

  /** Brings a variant into memory ahead of need; a failure shows when it is needed. */
  async preload(variant: Variant, lane: number): Promise<void> {
    try {
      const { release } = await this.#options.cache.acquire(this.#placement(variant, lane))
      release()
    } catch {
      return
    }
  }

  #placement(variant: Variant, lane: number): Placement {
    const { id, model, file, pinned, shards } = variant
    const placement = { variant: id, model, lane: this.#options.slots.home(lane), file, bytes: residentBytesOf(variant), pinned }
    return shards === undefined ? placement : { ...placement, shards }
  }

  async #runBatch(batch: Batch): Promise<void> {
    const { queue, members, variant, rows, lane } = batch
    const startedAt = performance.now()
    const runner = this.#options.slots.runner(lane, variant)
    try {
      const { outputs, runMs, spent } = await this.#run(batch, runner)
      for (const buffer of spent) this.#buffers.give(buffer)
      const endedAt = performance.now()
      const release = afterCalls(members.length, () => freeOutputs(outputs))
      const parts = split(
        outputs,
        members.map((member) => member.rows),
      )
      this.#options.book.observe(variant.id, queue.bucket.key, rows, endedAt - startedAt)
      this.#options.observer.batchFinished({ model: variant.model, variant: variant.name, rows, inferMs: runMs })
      const timed = members.filter((member) => member.deadline < Infinity)
      if (timed.length > 0) queue.learn(timed.some((member) => member.deadline < endedAt))
      // Not awaited: the lane is free for the next batch while these are encoded.
      void deliver(members, (index) => ({
        variant: variant.name,
        fidelity: variant.fidelity.score,
        outputs: parts[index] ?? {},
        reason: members[index]?.bestEffort && !members[0]?.bestEffort ? FILLED : batch.reason,
        queueMs: startedAt - (members[index]?.enqueuedAt ?? startedAt),
        inferMs: runMs,
        batchSize: rows,
        release,
      }))
    } catch (cause) {
      await this.#runFailed(batch, runner, asFlyweight(cause))
    }
  }

  #run({ queue, lane, variant, members }: Batch, runner: Runner | undefined): Promise<LaneRun> {
    const { slots, runTimeoutMs } = this.#options
    if (runner === undefined) throw laneGone(lane)
    const running = runner.run(
      variant.id,
      concatenate(
        members.map(({ feeds }) => feeds),
        queue.model.signature,
        this.#buffers,
      ),
      fetchesOf(members),
    )
    let timer: NodeJS.Timeout | undefined
    const hang = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new FlyweightError('run_timeout', `${variant.id} ran longer than ${runTimeoutMs} ms`))
        slots.abandon(lane, variant, `${variant.id} ran longer than ${runTimeoutMs} ms`)
      }, runTimeoutMs)
    })
    return Promise.race([running, hang]).finally(() => clearTimeout(timer))
  }

  async #runFailed(batch: Batch, runner: Runner | undefined, error: FlyweightError): Promise<void> {
    const { members, lane, variant } = batch
    const alive = runner !== undefined && this.#options.slots.runner(lane, variant) === runner
    if (!alive && variant.shards === undefined) this.blame(variant)
    if (!alive && error.code !== 'run_timeout') return this.#retry(batch, error)
    if (!alive || members.length === 1) return reject(members, error)
    // One row can fail a whole batch: alone, each request gets what it deserves.
    for (const member of members) await this.#runBatch({ ...batch, members: [member], rows: member.rows })
  }

  #loadFailed(batch: Batch, error: FlyweightError): void {
    const { variant, lane } = batch
    if (variant.shards === undefined ? this.#options.slots.runner(lane, variant) === undefined : error.code === 'inference_failed') {
      if (variant.shards === undefined) this.blame(variant)
      return this.#retry(batch, error)
    }
    if (error.code !== 'invalid_model' || variant.source) return reject(batch.members, error)
    this.#options.setState(variant, 'quarantined', `it cannot be loaded: ${error.message}`)
    this.#retry(batch, error)
  }

  #retry({ members, queue }: Batch, error: FlyweightError): void {
    for (const member of members) {
      if (member.retries > 0) member.reject(error)
      else {
        member.retries += 1
        queue.restore(member)
      }
    }
  }

  /** It was running on what died; of a sharded variant told once for each device, by whoever holds its stages. */
  blame(variant: Variant): void {
    const kills = (this.#kills.get(variant.id) ?? 0) + 1
    this.#kills.set(variant.id, kills)
    if (kills >= LETHAL) this.#options.setState(variant, 'quarantined', `it took down ${kills} ${variant.shards === undefined ? 'lanes' : 'devices'}`)
  }
}

/** Why a variant answered a request that no variant could meet, in a batch of requests that could be met. */
const FILLED = 'no variant could meet the SLA: answered where a batch had room'

/** Bytes of outputs handed out before other events get their turn: encoding and writing them takes the main thread milliseconds. */
const TURN_BYTES = 2 * 2 ** 20

async function deliver(members: readonly Entry[], answerOf: (index: number) => Answered): Promise<void> {
  let handedOut = 0
  for (const [index, member] of members.entries()) {
    const answer = answerOf(index)
    member.resolve(answer)
    handedOut += bytesOf(answer.outputs)
    if (handedOut < TURN_BYTES) continue
    handedOut = 0
    await nextTurn()
  }
}

/** Calls `done` at the `count`th call. */
function afterCalls(count: number, done: () => void): () => void {
  let left = count
  return () => {
    left -= 1
    if (left === 0) done()
  }
}

function reject(members: readonly Entry[], error: FlyweightError): void {
  for (const member of members) member.reject(error)
}

/** Outputs that any member wants; undefined when one wants all. */
function fetchesOf(members: readonly Entry[]): string[] | undefined {
  const wanted = new Set<string>()
  for (const { outputs } of members) {
    if (outputs === undefined) return undefined
    for (const name of outputs) wanted.add(name)
  }
  return [...wanted]
}

function laneGone(lane: number): FlyweightError {
  return new FlyweightError('inference_failed', `lane ${lane} is gone`)
}

function asFlyweight(error: unknown): FlyweightError {
  return error instanceof FlyweightError ? error : new FlyweightError('internal', messageOf(error), { cause: error })
}
