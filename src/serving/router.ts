// The SLA router: which variant and which batch size, decided when a lane is free (late binding).
// Pure policy: it reads a snapshot and returns a decision; scheduler.ts applies it. Admission, which
// asks whether a new request can be met at all, is admission.ts.
// After Clockwork (Gujarati et al., OSDI 2020: predictable latencies) and SuperServe's SlackFit (Khare et al., NSDI 2025).
import type { Prediction } from './latency-book.js'

/** A variant as the policy sees it, on one lane. */
export interface Candidate {
  id: string
  name: string
  fidelity: number
  state: 'ready' | 'rejected' | 'quarantined'
  /** Smaller, not faster: only for requests that pin it. */
  sizeOnly: boolean
  /** Why no lane may load it. */
  unfit?: string
  /** Milliseconds until it can run here: 0 when resident. */
  loadMs: number
  predict(batch: number): Prediction | undefined
}

/** What a request permits. */
export interface Demand {
  minFidelity: number
  /** Name of the only variant allowed, or undefined. */
  pinned: string | undefined
}

/** A queued request, reduced to what the policy needs. Queues are in order of service. */
export interface Waiting extends Demand {
  rows: number
  /** Absolute milliseconds; Infinity without a deadline or once it cannot be met. */
  deadline: number
  /** Its deadline cannot be met: it gets the fastest permitted variant when nothing feasible waits. */
  bestEffort: boolean
}

/** Why a request may not be answered by a variant, or undefined if it may. */
export function refusal(candidate: Candidate, demand: Demand): string | undefined {
  if (candidate.state !== 'ready') return `it is ${candidate.state}`
  if (demand.pinned !== undefined && candidate.name !== demand.pinned) return `the request pins ${demand.pinned}`
  if (candidate.unfit !== undefined) return candidate.unfit
  if (demand.pinned !== undefined) return undefined
  if (candidate.sizeOnly) return 'it is smaller but not faster, and serves only requests that pin it'
  if (candidate.fidelity < demand.minFidelity) return `its fidelity ${format(candidate.fidelity)} is below the minimum ${format(demand.minFidelity)}`
  return undefined
}

export interface DispatchInput {
  now: number
  /** In order of service, never empty. */
  queue: readonly Waiting[]
  candidates: readonly Candidate[]
  /** Arriving rows per millisecond. */
  arrivalRate: number
  /** Lanes that share this queue's load. */
  lanes: number
  /** Safety margin in milliseconds. */
  epsilonMs: number
  maxBatch: number
  /** Longest a queued request may be held back for company; milliseconds. */
  maxDelayMs: number
  /** Milliseconds the head has already waited. */
  headWaitedMs: number
  /** Rows of this queue whose deadline fell to the load before them, not to the speed of the variants. */
  displacedRows: number
  /** Requests that are usually in the system but are not now: they can be expected shortly. */
  expectedRequests: number
}

export type Dispatch =
  | { kind: 'run'; candidate: Candidate; members: readonly number[]; rows: number; reason: string }
  | { kind: 'wait'; untilMs: number }
  /** No permitted variant can meet the head's deadline any more. */
  | { kind: 'late' }
  | { kind: 'nothing' }

interface Plan {
  candidate: Candidate
  members: readonly number[]
  rows: number
  /** p50 including a load, where known. */
  typicalMs: number | undefined
  prediction: Prediction | undefined
}

/**
 * Chooses variant and batch for the head of a queue: the most faithful variant that keeps up with
 * arrivals and with every queued deadline; if none keeps up, the one of highest throughput.
 * `members` are indexes into `queue`, the head first.
 */
export function dispatch(input: DispatchInput): Dispatch {
  const head = input.queue[0]
  if (head === undefined) return { kind: 'nothing' }
  const permitted = input.candidates.filter((candidate) => refusal(candidate, head) === undefined)
  if (permitted.length === 0) return { kind: 'nothing' }
  const slackMs = head.deadline - input.now - input.epsilonMs
  const inTime = permitted.map((candidate) => plan(candidate, input, slackMs)).filter((found) => found !== undefined)
  if (inTime.length === 0) return { kind: 'late' }
  if (head.bestEffort) return run(inTime.reduce(faster), 'no variant meets the SLA: the fastest permitted answers')
  const keeping = inTime.filter((candidate) => keepsUp(candidate, input))
  const chosen = keeping.length > 0 ? keeping.reduce(moreFaithful) : inTime.reduce(faster)
  const waitMs = worthWaiting(chosen, input, slackMs)
  if (waitMs > 0) return { kind: 'wait', untilMs: input.now + waitMs }
  return run(chosen, keeping.length > 0 ? 'the most faithful variant that meets the SLA' : 'the load is above what more faithful variants keep up with')
}

function run(chosen: Plan, reason: string): Dispatch {
  return { kind: 'run', candidate: chosen.candidate, members: chosen.members, rows: chosen.rows, reason }
}

/** A smaller batch within this share of the best throughput is preferred: it answers sooner. */
const AS_GOOD = 0.99

/**
 * The batch of compatible requests, taken in queue order, that gives a variant its best throughput within
 * the slack of every member. More rows are not always better: some models run slower a row in large batches.
 */
function plan(candidate: Candidate, input: DispatchInput, slackMs: number): Plan | undefined {
  const members: number[] = []
  const steps: Plan[] = []
  let rows = 0
  let tightestMs = slackMs
  for (const [index, waiting] of input.queue.entries()) {
    const grown = rows + waiting.rows
    if (index > 0 && grown > input.maxBatch) break
    if (refusal(candidate, waiting) !== undefined) continue
    const prediction = candidate.predict(grown)
    tightestMs = Math.min(tightestMs, waiting.deadline - input.now - input.epsilonMs)
    if (prediction !== undefined && prediction.p99Ms + candidate.loadMs > tightestMs) break
    members.push(index)
    rows = grown
    steps.push({ candidate, members, rows, prediction, typicalMs: prediction === undefined ? undefined : prediction.p50Ms + candidate.loadMs })
  }
  const largest = steps.at(-1)
  if (largest?.typicalMs === undefined) return largest
  const best = Math.max(...steps.map(throughput))
  const size = steps.findIndex((step) => throughput(step) >= best * AS_GOOD)
  const chosen = steps[size] ?? largest
  return { ...chosen, members: members.slice(0, size + 1) }
}

/** Deadlines looked at in one decision; beyond these the arrival rate speaks for the rest. */
const LOOKAHEAD = 128

/** Whether serving everything queued by this plan's variant and batch size meets the arrival rate and each queued deadline. */
function keepsUp({ rows, prediction, typicalMs, candidate }: Plan, input: DispatchInput): boolean {
  if (prediction === undefined || typicalMs === undefined) return true
  // Deadlines kept by giving others up are not kept: whoever was displaced shows that this choice is too slow.
  if (input.displacedRows > 0) return false
  if ((input.lanes * rows) / prediction.p50Ms < input.arrivalRate && input.queue.length > 1) return false
  const tail = prediction.p99Ms - prediction.p50Ms + input.epsilonMs + candidate.loadMs
  let ahead = 0
  for (const waiting of input.queue.slice(0, LOOKAHEAD)) {
    ahead += waiting.rows
    if (waiting.deadline === Infinity) continue
    const rounds = Math.ceil(ahead / (rows * input.lanes))
    if (input.now + rounds * prediction.p50Ms + tail > waiting.deadline) return false
  }
  return true
}

function moreFaithful(best: Plan, next: Plan): Plan {
  if (next.candidate.fidelity !== best.candidate.fidelity) return next.candidate.fidelity > best.candidate.fidelity ? next : best
  return faster(best, next)
}

function faster(best: Plan, next: Plan): Plan {
  return throughput(next) > throughput(best) ? next : best
}

/** Messages to a lane and back cost about this much a batch, whatever is in it; milliseconds. */
const DISPATCH_MS = 0.15

/** Rows per millisecond; a variant never measured counts as slow, so that a measured one is preferred. */
function throughput({ rows, typicalMs }: Plan): number {
  return typicalMs === undefined ? 0 : rows / (typicalMs + DISPATCH_MS)
}

/**
 * Milliseconds to hold the batch back for more rows; 0 to run now. Waits only while more requests are
 * due, the head can afford it, and nobody exceeds `maxDelayMs`. A lone client is never made to wait.
 */
function worthWaiting(chosen: Plan, input: DispatchInput, slackMs: number): number {
  if (input.expectedRequests < 1 || chosen.rows >= input.maxBatch || chosen.members.length < input.queue.length) return 0
  const next = chosen.candidate.predict(Math.min(input.maxBatch, chosen.rows * 2))
  if (next === undefined || input.arrivalRate <= 0) return 0
  // Company that does not make the batch cheaper a row is not worth waiting for.
  if ((chosen.typicalMs ?? Infinity) / chosen.rows <= (AS_GOOD * (next.p50Ms + chosen.candidate.loadMs)) / Math.min(input.maxBatch, chosen.rows * 2)) return 0
  const interArrivalMs = 1 / input.arrivalRate
  const affordableMs = Math.min(slackMs - next.p99Ms - chosen.candidate.loadMs, input.maxDelayMs - input.headWaitedMs)
  // Holding k rows back costs k × wait; what it saves is a run of its own for each row that joins.
  const alone = chosen.candidate.predict(1)
  const gainMs = alone === undefined ? 0 : alone.p50Ms + chosen.candidate.loadMs
  if (interArrivalMs > gainMs || affordableMs <= interArrivalMs) return 0
  return Math.min(affordableMs, interArrivalMs * Math.min(input.expectedRequests, input.maxBatch - chosen.rows))
}

function format(fidelity: number): string {
  return fidelity.toFixed(4)
}
