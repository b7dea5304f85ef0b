// The Pareto front of a search: which variants nothing else beats in latency at each batch size, in bytes and in
// fidelity at once. Pure. Whom it is shown to and what is kept of it are search.ts's business.
import type { SearchCandidate } from '../../measurements.js'

/** What variants are compared by. */
export type Standing = Required<Pick<SearchCandidate, 'bytes' | 'fidelity' | 'ratios'>> & {
  /** Its recipe promises size only here: what looks like speed must be clear to be believed. */
  sizeOnly?: boolean
}

/** Differences below these count as none: two measurements of one model differ by as much, and nobody would choose by less. */
const STEPS = { ratio: 0.02, bytes: 0.01, fidelity: 0.001 }

/** Largest ratio that counts as faster where the recipe promises no speed. */
const CLEARLY_FASTER = 0.95

/** Whether requests that do not ask for it by name may get it: only what is at no batch size slower than the source model. */
export function mayServe({ ratios, sizeOnly = false }: Pick<Standing, 'ratios' | 'sizeOnly'>): boolean {
  return ratios.length > 0 && ratios.every(({ ratio }) => ratio <= (sizeOnly ? CLEARLY_FASTER : 1))
}

/**
 * Divides variants into the front and the rest, each of the rest with a member of the front that is at least as good
 * in everything. Of equals the first is in the front. What may not serve unasked is there for its size: its latency
 * counts as worse than any. All `ratios` are of the same batch sizes, in the same order.
 */
export function divide<Entry extends Standing>(entries: readonly Entry[]): { front: Entry[]; beatenBy: Map<Entry, Entry> } {
  const costs = new Map(entries.map((entry) => [entry, costsOf(entry)]))
  const beats = (one: Entry, other: Entry) => {
    const [own, others] = [costs.get(one)!, costs.get(other)!]
    if (!own.every((cost, objective) => cost <= others[objective]!)) return false
    return own.some((cost, objective) => cost < others[objective]!) || entries.indexOf(one) < entries.indexOf(other)
  }
  const front = entries.filter((entry) => !entries.some((other) => beats(other, entry)))
  const beatenBy = new Map<Entry, Entry>()
  for (const entry of entries) {
    const winner = front.find((other) => beats(other, entry))
    if (winner !== undefined) beatenBy.set(entry, winner)
  }
  return { front, beatenBy }
}

/** Less is better; in whole steps, so that being at least as good is transitive. */
function costsOf(standing: Standing): number[] {
  const { bytes, fidelity, ratios } = standing
  const serves = mayServe(standing)
  return [
    -Math.round(fidelity / STEPS.fidelity),
    Math.round(Math.log(bytes) / Math.log1p(STEPS.bytes)),
    ...ratios.map(({ ratio }) => (serves ? Math.round(ratio / STEPS.ratio) : Infinity)),
  ]
}
