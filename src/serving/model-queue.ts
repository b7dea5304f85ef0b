// The requests of one model version and input shape that wait for a lane, in order of service, and what
// is known of their traffic. Decides nothing: scheduler.ts asks the policy and takes batches out.
import type { FlyweightError } from '../errors.js'
import type { ModelVersion } from '../registry/model.js'
import type { Tensor } from '../tensor/tensor.js'
import type { Feeds } from './collate.js'
import type { Bucket } from './latency-book.js'
import type { Waiting } from './router.js'

/** What a run gives back to one request. */
export interface Answered {
  variant: string
  fidelity: number
  outputs: Readonly<Record<string, Tensor>>
  reason: string
  queueMs: number
  inferMs: number
  batchSize: number
  /** See InferResult. */
  release(): void
}

export interface Entry extends Waiting {
  feeds: Feeds
  bytes: number
  outputs: readonly string[] | undefined
  priority: number
  enqueuedAt: number
  /** Absolute milliseconds after which it is given up, deadline or not. */
  expiresAt: number
  /** Best effort because of the load before it: a faster choice would have kept its deadline. */
  displaced: boolean
  /** When the deadline passes in the queue: answer late, or refuse. */
  refuseLate: boolean
  /** Fails of other requests' or lanes' making that it has survived. */
  retries: number
  resolve(answer: Answered): void
  reject(error: FlyweightError): void
}

/** Requests without a deadline take their turn as if they had this one. */
const HORIZON_MS = 10_000
/** Arrival rate is an exponential average over this time. */
const RATE_MS = 500
/** The usual number of requests in the system is forgotten over this time. */
const CROWD_MS = 1000
const EPSILON = { start: 0.5, least: 0.1, most: 50, grow: 1.5, decay: 0.995 }

export class ModelQueue {
  readonly model: ModelVersion
  readonly bucket: Bucket
  readonly #feasible: Entry[] = []
  readonly #bestEffort: Entry[] = []
  /** Requests now running. */
  inFlight = 0
  /** Milliseconds a row costs at best: the fastest variant's, at its best batch size; 0 until known. */
  msPerRow = 0
  epsilonMs = EPSILON.start
  #rows = 0
  #bytes = 0
  #rate = 0
  #crowd = 0
  #touchedAt = 0

  constructor(model: ModelVersion, bucket: Bucket) {
    this.model = model
    this.bucket = bucket
  }

  get rows(): number {
    return this.#rows
  }

  get bytes(): number {
    return this.#bytes
  }

  get length(): number {
    return this.#feasible.length + this.#bestEffort.length
  }

  get displacedRows(): number {
    return this.#bestEffort.reduce((sum, { rows, displaced }) => (displaced ? sum + rows : sum), 0)
  }

  /** In order of service: requests that can be met, then the rest, which fill what room a batch of the first leaves. */
  get line(): readonly Entry[] {
    if (this.#bestEffort.length === 0) return this.#feasible
    return [...this.#feasible, ...this.#bestEffort]
  }

  /** Order of service over all queues; lower goes first, best effort after everything that can be met. */
  get urgency(): { bestEffort: boolean; turn: number } {
    const head = this.#feasible[0] ?? this.#bestEffort[0]
    return { bestEffort: this.#feasible.length === 0, turn: head === undefined ? Infinity : turnOf(head) }
  }

  add(entry: Entry, now: number): void {
    this.#touch(now)
    this.#rate += entry.rows / RATE_MS
    this.#insert(entry)
    this.#rows += entry.rows
    this.#bytes += entry.bytes
    this.#crowd = Math.max(this.#crowd, this.length + this.inFlight)
  }

  /** Puts back what a lost lane or a failed load left unanswered. */
  restore(entry: Entry): void {
    this.#insert(entry)
    this.#rows += entry.rows
    this.#bytes += entry.bytes
  }

  /** Takes an entry out; false when it is not waiting any more. */
  remove(entry: Entry): boolean {
    const line = entry.bestEffort ? this.#bestEffort : this.#feasible
    const index = line.indexOf(entry)
    if (index === -1) return false
    line.splice(index, 1)
    this.#rows -= entry.rows
    this.#bytes -= entry.bytes
    return true
  }

  /** The deadline of a waiting entry cannot be met any more: it makes room for those whose can. */
  demote(entry: Entry): void {
    if (!this.remove(entry)) return
    entry.bestEffort = true
    entry.displaced = true
    entry.deadline = Infinity
    this.restore(entry)
  }

  /** Entries that must leave the line they are in at `now`. */
  overdue(now: number): { late: Entry[]; expired: Entry[] } {
    const waiting = [...this.#feasible, ...this.#bestEffort]
    return { expired: waiting.filter((entry) => entry.expiresAt <= now), late: waiting.filter((entry) => entry.deadline <= now && entry.expiresAt > now) }
  }

  /** Rows that go before a request of this deadline. */
  rowsBefore(deadline: number): number {
    return this.#feasible.reduce((sum, entry) => (entry.deadline <= deadline ? sum + entry.rows : sum), 0)
  }

  /** Arriving rows per millisecond. */
  arrivalRate(now: number): number {
    return this.#rate * Math.exp((this.#touchedAt - now) / RATE_MS)
  }

  /** Requests usually in the system and not now: clients that are about to ask again. */
  expectedRequests(now: number): number {
    return Math.floor(this.#crowd * Math.exp((this.#touchedAt - now) / CROWD_MS)) - this.length - this.inFlight
  }

  /** Learns from a finished batch whether a deadline thought feasible was missed. */
  learn(missed: boolean): void {
    this.epsilonMs = missed ? Math.min(EPSILON.most, this.epsilonMs * EPSILON.grow) : Math.max(EPSILON.least, this.epsilonMs * EPSILON.decay)
  }

  #touch(now: number): void {
    this.#rate = this.arrivalRate(now)
    this.#crowd *= Math.exp((this.#touchedAt - now) / CROWD_MS)
    this.#touchedAt = now
  }

  #insert(entry: Entry): void {
    const line = entry.bestEffort ? this.#bestEffort : this.#feasible
    const turn = turnOf(entry)
    let index = line.length
    while (index > 0 && turnOf(line[index - 1] as Entry) > turn) index -= 1
    line.splice(index, 0, entry)
  }
}

/** A priority level is worth one horizon of waiting, so that no request starves: later arrivals have later turns. */
function turnOf(entry: Entry): number {
  return Math.min(entry.deadline, entry.enqueuedAt + HORIZON_MS) - entry.priority * HORIZON_MS
}
