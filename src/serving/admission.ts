// Admission: can a new request be met, and if not, why not? Pure policy. The answer decides whether
// it is queued with its deadline, served by best effort, refused, or reason to build a variant.
import { refusal, type Candidate, type Demand } from './router.js'

export interface AdmissionInput {
  now: number
  demand: Demand
  /** Absolute milliseconds; Infinity without a deadline. */
  deadline: number
  rows: number
  candidates: readonly Candidate[]
  /** Milliseconds until the first lane is free. */
  laneFreeMs: number
  /** Predicted milliseconds of queued work that is due before this request. */
  backlogMs: number
  epsilonMs: number
}

export type Admission =
  | { kind: 'feasible'; candidate: Candidate; predictedMs: number | undefined }
  | {
      kind: 'unmet'
      /** `none`: no variant is permitted. `speed`: even alone no permitted variant is fast enough.
       *  `cold`: only loading takes too long. `backlog`: only the queue is in the way. */
      cause: 'none' | 'speed' | 'cold' | 'backlog'
      fastest: Candidate | undefined
      predictedMs: number | undefined
      /** Milliseconds after which an identical request would be feasible, where it can be told. */
      retryAfterMs: number | undefined
    }

/** Judges a request against a snapshot. A variant never measured is given the benefit of the doubt. */
export function admit(input: AdmissionInput): Admission {
  const options = input.candidates.filter((candidate) => refusal(candidate, input.demand) === undefined).map((candidate) => estimate(candidate, input))
  if (options.length === 0) return { kind: 'unmet', cause: 'none', fastest: undefined, predictedMs: undefined, retryAfterMs: undefined }
  const feasible = options.filter(({ finishMs }) => input.now + finishMs <= input.deadline)
  if (feasible.length > 0) {
    const best = feasible.reduce((left, right) => (right.candidate.fidelity > left.candidate.fidelity ? right : left))
    return { kind: 'feasible', candidate: best.candidate, predictedMs: best.known ? best.finishMs : undefined }
  }
  const fastest = options.reduce((left, right) => (right.typicalMs < left.typicalMs ? right : left))
  const budgetMs = input.deadline - input.now
  const alone = (cost: Estimate) => cost.runMs + input.epsilonMs
  const unmet = { kind: 'unmet', fastest: fastest.candidate, predictedMs: fastest.finishMs } as const
  if (options.every((cost) => alone(cost) > budgetMs)) return { ...unmet, cause: 'speed', retryAfterMs: undefined }
  if (options.every((cost) => alone(cost) + cost.candidate.loadMs > budgetMs)) return { ...unmet, cause: 'cold', retryAfterMs: fastest.candidate.loadMs }
  return { ...unmet, cause: 'backlog', retryAfterMs: Math.max(0, fastest.finishMs - budgetMs) }
}

interface Estimate {
  candidate: Candidate
  known: boolean
  /** p99 of the request's own run; 0 when unknown. */
  runMs: number
  /** p50 of the same: steadier than p99, so it says which variant is fastest. */
  typicalMs: number
  /** Queue, load, run and margin together. */
  finishMs: number
}

function estimate(candidate: Candidate, input: AdmissionInput): Estimate {
  const prediction = candidate.predict(input.rows)
  const runMs = prediction?.p99Ms ?? 0
  const finishMs = Math.max(0, input.laneFreeMs) + input.backlogMs + candidate.loadMs + runMs + input.epsilonMs
  return { candidate, known: prediction !== undefined, runMs, typicalMs: prediction?.p50Ms ?? 0, finishMs: prediction === undefined ? 0 : finishMs }
}
