// Why a request would be, or was, answered by which variant: one line a variant. Pure.
import type { Variant } from '../registry/model.js'
import type { Admission } from './admission.js'
import type { Considered } from './request.js'
import { refusal, type Candidate, type Demand } from './router.js'

export interface Question {
  demand: Demand
  /** Milliseconds from arrival; undefined without a deadline. */
  latencyMs: number | undefined
  rows: number
  epsilonMs: number
  admission: Admission
}

/** One line for each variant, in the given order; candidates and variants are of the same model. */
export function considered(variants: readonly Variant[], candidates: readonly Candidate[], question: Question): Considered[] {
  const chosen = question.admission.kind === 'feasible' ? question.admission.candidate : question.admission.fastest
  return candidates.map((candidate) => {
    const variant = variants.find(({ id }) => id === candidate.id)
    const isChosen = candidate.id === chosen?.id
    return {
      variant: candidate.name,
      fidelity: candidate.fidelity,
      state: candidate.state,
      resident: candidate.loadMs === 0,
      predictedMs: candidate.predict(question.rows)?.p99Ms,
      chosen: isChosen,
      reason: reasonOf(candidate, variant, question, isChosen),
    }
  })
}

function reasonOf(candidate: Candidate, variant: Variant | undefined, question: Question, chosen: boolean): string {
  const no = refusal(candidate, question.demand)
  if (no !== undefined) return variant?.reason ? `${no}: ${variant.reason}` : no
  const p99Ms = candidate.predict(question.rows)?.p99Ms
  const { latencyMs, epsilonMs } = question
  if (latencyMs === undefined) return chosen ? 'the most faithful, and there is no deadline' : 'permitted, but less faithful or slower than the chosen one'
  if (p99Ms === undefined) return chosen ? 'not measured yet: given the benefit of the doubt' : 'not measured yet'
  const cost = `p99 ${p99Ms.toFixed(1)} ms${candidate.loadMs > 0 ? ` + ${candidate.loadMs.toFixed(0)} ms to load` : ''} + margin ${epsilonMs.toFixed(1)} ms`
  if (question.admission.kind === 'unmet')
    return chosen ? `${cost} exceeds ${latencyMs} ms, but it is the fastest permitted` : `${cost} exceeds ${latencyMs} ms`
  if (chosen) return `${cost} fits ${latencyMs} ms: the most faithful that does`
  return p99Ms + candidate.loadMs + epsilonMs <= latencyMs ? `${cost} fits ${latencyMs} ms, but it is less faithful` : `${cost} does not fit ${latencyMs} ms`
}

/** The admission in one sentence. */
export function summary(admission: Admission, latencyMs: number | undefined): string {
  if (admission.kind === 'feasible') return `${admission.candidate.name} is the most faithful variant that meets the request`
  const deadline = `${latencyMs ?? '?'} ms`
  switch (admission.cause) {
    case 'none':
      return 'no variant is permitted by this request'
    case 'speed':
      return `no permitted variant is fast enough for ${deadline}`
    case 'cold':
      return `a variant that meets ${deadline} is not in memory yet`
    case 'backlog':
      return `the queue is too long to meet ${deadline} now`
  }
}
