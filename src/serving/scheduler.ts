// The machinery behind the router: when a lane is free it asks the policy, takes the batch out of its
// queue, and sees it through (executor.ts). It holds the queues; it makes no choice of its own.
import { FlyweightError } from '../errors.js'
import type { ModelVersion, Variant } from '../registry/model.js'
import { candidatesFor, freeSlots, suitsModel, type Standing } from './candidates.js'
import type { Executor } from './executor.js'
import type { Bucket } from './latency-book.js'
import { ModelQueue, type Entry } from './model-queue.js'
import type { ServingObserver } from './observer.js'
import { dispatch, refusal, type Candidate } from './router.js'
import { loadMsOf } from './variant-cost.js'

export interface SchedulerLimits {
  maxBatch: number
  maxDelayMs: number
  maxQueuedRows: number
  maxQueuedBytes: number
  /** Weights of a whole variant that a lane may load; 0: any. */
  laneBudgetBytes: number
}

export interface SchedulerOptions extends Standing {
  executor: Executor
  observer: ServingObserver
  limits: SchedulerLimits
}

/** Idle queues are kept for what they have learned, but not without end: clients choose the shapes. */
const KEPT_QUEUES = 64
/** How often expired entries are looked for while anything waits. */
const SWEEP_MS = 20

export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #queues = new Map<string, ModelQueue>()
  readonly #preloads = new Map<string, Variant>()
  #pumping = false
  #closed = false
  #timer: NodeJS.Timeout | undefined
  #sweep: NodeJS.Timeout | undefined

  constructor(options: SchedulerOptions) {
    this.#options = options
  }

  queue(model: ModelVersion, bucket: Bucket): ModelQueue {
    const key = keyOf(model, bucket)
    let queue = this.#queues.get(key)
    if (queue === undefined) this.#queues.set(key, (queue = new ModelQueue(model, bucket)))
    return queue
  }

  /** More than half of what a queue may hold is waiting: no time to start builds. */
  get isCrowded(): boolean {
    return [...this.#queues.values()].some((queue) => queue.rows > this.#options.limits.maxQueuedRows / 2)
  }

  /** @throws FlyweightError `overloaded` when the queue is full, `too_large` for what it could never hold; nothing is queued then. */
  submit(queue: ModelQueue, entry: Entry): void {
    const { limits } = this.#options
    if (entry.rows > limits.maxQueuedRows || entry.bytes > limits.maxQueuedBytes) {
      throw new FlyweightError(
        'too_large',
        `the request has ${entry.rows} rows and ${entry.bytes} bytes; at most ${limits.maxQueuedRows} rows and ${limits.maxQueuedBytes} bytes fit the queue`,
      )
    }
    const [rows, bytes] = [this.#sum(queue.model.name, 'rows'), this.#sum(undefined, 'bytes')]
    if (rows + entry.rows > limits.maxQueuedRows || bytes + entry.bytes > limits.maxQueuedBytes) {
      const drainMs = (rows * queue.msPerRow) / this.#options.slots.lanes
      throw new FlyweightError('overloaded', `the queue of ${queue.model.name} is full: ${rows} rows and ${bytes} bytes wait`, {
        retryAfterS: Math.max(1, Math.ceil(drainMs / 1000)),
      })
    }
    // A request may come long after it asked for its queue, which was forgotten meanwhile.
    this.#queues.set(keyOf(queue.model, queue.bucket), queue)
    queue.add(entry, performance.now())
    this.#reportDepth(queue)
    this.#watchOver(queue)
  }

  /** Takes an entry out of its queue; false when it is not waiting any more. */
  withdraw(queue: ModelQueue, entry: Entry): boolean {
    const waited = queue.remove(entry)
    if (waited) this.#reportDepth(queue)
    return waited
  }

  /** Sees to it that what waits in a queue, newly come or put back, is looked at. */
  #watchOver(queue: ModelQueue): void {
    if (queue.length === 0 || this.#closed) return
    this.#sweep ??= setInterval(() => this.#sweepOverdue(), SWEEP_MS)
    this.wake()
  }

  /** Predicted milliseconds of queued work due before `deadline`, spread over the lanes. */
  backlogMs(deadline: number): number {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.rowsBefore(deadline) * queue.msPerRow, 0) / this.#options.slots.lanes
  }

  /** Milliseconds until a slot is free that one of the model's variants can run on. */
  laneFreeMs(now: number, model: ModelVersion): number {
    const { slots } = this.#options
    const suiting = Array.from({ length: slots.count }, (_, id) => id).filter((id) => suitsModel(this.#options, id, model))
    return Math.min(...suiting.map((id) => slots.freeInMs(id, now)))
  }

  /** Loads a variant on the next free lane, so that later requests find it resident. */
  preload(variant: Variant): void {
    if (this.#options.cache.lanesOf(variant.id).length > 0) return
    this.#preloads.set(variant.id, variant)
    this.wake()
  }

  /** Looks for work soon; every request read in this turn of the event loop joins the same decision. */
  wake(): void {
    if (this.#pumping) return
    this.#pumping = true
    setImmediate(() => {
      this.#pumping = false
      this.#pump()
    })
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    clearInterval(this.#sweep)
    const error = new FlyweightError('draining', 'the gateway stopped before this request had its turn')
    for (const queue of this.#queues.values()) for (const entry of queue.overdue(Infinity).expired) if (queue.remove(entry)) entry.reject(error)
  }

  #pump(): void {
    clearTimeout(this.#timer)
    this.#startPreloads()
    let wakeAt = Infinity
    const ordered = [...this.#queues.values()].filter((queue) => queue.length > 0).sort(byUrgency)
    for (const queue of ordered) {
      for (const lane of freeSlots(this.#options, queue.model)) {
        if (queue.length === 0) break
        wakeAt = Math.min(wakeAt, this.#offer(queue, lane))
      }
    }
    if (wakeAt < Infinity) this.#timer = setTimeout(() => this.wake(), Math.max(0, wakeAt - performance.now()))
  }

  /** Offers a free lane to a queue; returns when the queue wants to be asked again, or Infinity. */
  #offer(queue: ModelQueue, lane: number): number {
    const { slots, limits, executor } = this.#options
    for (;;) {
      const now = performance.now()
      const { line } = queue
      const [head] = line
      if (head === undefined) return Infinity
      const maxBatch = queue.model.signature.batchable ? Math.min(limits.maxBatch, queue.model.manifest.policy?.maxBatch ?? Infinity) : 1
      const candidates = this.candidates(queue, lane)
      queue.msPerRow = leastMsPerRow(candidates, maxBatch) ?? queue.msPerRow
      const decision = dispatch({
        now,
        queue: line,
        candidates,
        arrivalRate: queue.arrivalRate(now),
        lanes: slots.peers(lane),
        epsilonMs: queue.epsilonMs,
        maxBatch,
        maxDelayMs: queue.model.manifest.policy?.maxDelayMs ?? limits.maxDelayMs,
        headWaitedMs: now - head.enqueuedAt,
        displacedRows: queue.displacedRows,
        expectedRequests: queue.expectedRequests(now),
      })
      switch (decision.kind) {
        case 'run': {
          const members = decision.members.map((index) => line[index] as Entry)
          for (const member of members) queue.remove(member)
          this.#reportDepth(queue)
          slots.take(lane, now + decision.candidate.loadMs + (decision.candidate.predict(decision.rows)?.p50Ms ?? 0))
          const variant = this.#variant(queue.model, decision.candidate.id)
          void executor.execute({ queue, lane, members, rows: decision.rows, variant, reason: decision.reason }).finally(() => {
            slots.give(lane)
            this.#watchOver(queue)
          })
          return Infinity
        }
        case 'late':
          this.#miss(queue, head)
          continue
        case 'wait':
          return decision.untilMs
        case 'nothing':
          if (!this.#isHopeless(queue, head)) return Infinity
          this.withdraw(queue, head)
          head.reject(new FlyweightError('sla_unmet', 'the variants that this request permits went away while it waited'))
          continue
      }
    }
  }

  /** The model's variants as they stand for one slot, or for any slot when `slot` is undefined. */
  candidates(queue: ModelQueue, slot?: number): Candidate[] {
    return candidatesFor(this.#options, queue, slot)
  }

  #startPreloads(): void {
    const { slots, executor, cache } = this.#options
    for (const [id, variant] of this.#preloads) {
      const free = slots.free().filter((lane) => slots.suits(lane, variant))
      const [lane] = free.sort((a, b) => cache.bytesOn(slots.home(a)) - cache.bytesOn(slots.home(b)))
      if (lane === undefined) continue
      this.#preloads.delete(id)
      slots.take(lane, performance.now() + loadMsOf(variant))
      void executor.preload(variant, lane).finally(() => slots.give(lane))
    }
  }

  #sweepOverdue(): void {
    const now = performance.now()
    for (const [key, queue] of this.#queues) {
      if (queue.length > 0) {
        const { late, expired } = queue.overdue(now)
        for (const entry of expired) {
          if (this.withdraw(queue, entry))
            entry.reject(new FlyweightError('deadline_passed', `it waited ${Math.round(now - entry.enqueuedAt)} ms without its turn`, { retryAfterS: 1 }))
        }
        for (const entry of late) this.#miss(queue, entry)
      } else if (queue.inFlight === 0 && this.#queues.size > KEPT_QUEUES && queue.expectedRequests(now) <= 0) this.#queues.delete(key)
    }
    if ([...this.#queues.values()].every((queue) => queue.length === 0)) {
      clearInterval(this.#sweep)
      this.#sweep = undefined
    }
    this.wake()
  }

  #miss(queue: ModelQueue, entry: Entry): void {
    if (!entry.refuseLate) return queue.demote(entry)
    if (this.withdraw(queue, entry)) entry.reject(new FlyweightError('deadline_passed', 'the deadline passed in the queue', { retryAfterS: 1 }))
  }

  #reportDepth(queue: ModelQueue): void {
    this.#options.observer.queueDepth(queue.model.name, this.#sum(queue.model.name, 'rows'))
  }

  /** No lane could serve it, whatever it holds: it must not hold up those behind it. */
  #isHopeless(queue: ModelQueue, entry: Entry): boolean {
    return this.candidates(queue).every((candidate) => refusal(candidate, entry) !== undefined)
  }

  #variant(model: ModelVersion, id: string): Variant {
    return this.#options.variants(model).find((variant) => variant.id === id) as Variant
  }

  #sum(model: string | undefined, what: 'rows' | 'bytes'): number {
    let sum = 0
    for (const queue of this.#queues.values()) if (model === undefined || queue.model.name === model) sum += queue[what]
    return sum
  }
}

function keyOf(model: ModelVersion, bucket: Bucket): string {
  return `${model.name}:${model.version}:${model.digest}|${bucket.key}`
}

function byUrgency(a: ModelQueue, b: ModelQueue): number {
  const [left, right] = [a.urgency, b.urgency]
  return Number(left.bestEffort) - Number(right.bestEffort) || left.turn - right.turn
}

/** Of the fastest variant that may serve unpinned, at the best of a few batch sizes; undefined when none was measured. */
function leastMsPerRow(candidates: readonly Candidate[], maxBatch: number): number | undefined {
  const costs = candidates
    .filter(({ state, sizeOnly }) => state === 'ready' && !sizeOnly)
    .flatMap(({ predict }) => [1, Math.min(8, maxBatch), maxBatch].map((batch) => (predict(batch)?.p50Ms ?? Infinity) / batch))
  const least = Math.min(...costs)
  return Number.isFinite(least) ? least : undefined
}
