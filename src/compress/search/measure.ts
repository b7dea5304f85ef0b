// Measures a variant beside its source model, run by run: each candidate when it is tried, and the best once more at the
// end. What was chosen for being fast was chosen among lucky measurements too, and only another measurement can tell
// which those were.
import type { BatchLatency, GateLatency } from '../../measurements.js'
import { profileInterleaved } from '../../runtime/profiler.js'
import type { Contender, TrialRequest } from './contender.js'

/** Latencies of a variant, and the same beside those of the source model. */
export interface Measured {
  latencies: readonly BatchLatency[]
  gateLatencies: readonly GateLatency[]
}

/** Rounds that the last measurement takes at least a batch size, and about what they cost with those to warm up. */
const [LEAST_ROUNDS, LEAST_COST] = [5, 7]
/** Share of the time that measuring is meant to take: the last round of a batch size may exceed it. */
const MEASURING_SHARE = 0.6

/**
 * Measures one file, `budgetMs` a batch size, but at least `leastRounds`.
 * @throws FlyweightError `cancelled` when the signal aborts; what the runtime throws
 */
export async function measure(file: string, request: TrialRequest & { budgetMs: number; leastRounds: number }): Promise<Measured> {
  const { sourceFile, budgetMs, leastRounds, signal, feedsAt, batches, device, threads, onProgress } = request
  const subjects = [
    { name: 'source', file: sourceFile },
    { name: 'variant', file },
  ]
  const tell = ({ fraction, batch }: { fraction: number; batch: number }) => onProgress?.(fraction, `measuring batch ${batch}`)
  const profiles = await profileInterleaved({ subjects, feedsAt, batches, device, threads, budgetMs, leastRounds, signal, onProgress: tell })
  const [parent, { latencies, ratios }] = [profiles.get('source')!, profiles.get('variant')!]
  const gateLatencies = latencies.map(({ batch, p50Ms }, index) => ({
    batch,
    parentP50Ms: parent.latencies[index]!.p50Ms,
    variantP50Ms: p50Ms,
    ratio: ratios[index]!.ratio,
  }))
  return { latencies, gateLatencies }
}

/**
 * Measures as many contenders as can be in `milliseconds`, the fastest first, by recipe; what the signal left time for.
 * One after the other: sessions keep the memory of their largest batch, which together could be more than there is.
 * @throws what the runtime throws
 */
export async function measureAgain(contenders: readonly Contender[], request: TrialRequest & { milliseconds: number }): Promise<Map<string, Measured>> {
  const { milliseconds, signal, batches } = request
  const chosen = affordable(contenders, milliseconds)
  const budgetMs = (milliseconds * MEASURING_SHARE) / (batches.length * Math.max(1, chosen.length))
  const measured = new Map<string, Measured>()
  try {
    for (const { recipe, built } of chosen) measured.set(recipe, await measure(built.file, { ...request, budgetMs, leastRounds: LEAST_ROUNDS }))
  } catch (error) {
    if (!signal.aborted) throw error
  }
  return measured
}

/** The fastest contenders whose least measuring fits. */
function affordable(contenders: readonly Contender[], milliseconds: number): Contender[] {
  const cost = ({ built }: Contender) => LEAST_COST * sum(built.report.gate.latencies.map(({ parentP50Ms, variantP50Ms }) => parentP50Ms + variantP50Ms))
  const fastest = [...contenders].sort((a, b) => sum(a.ratios.map(({ ratio }) => ratio)) - sum(b.ratios.map(({ ratio }) => ratio)))
  let left = milliseconds
  return fastest.filter((contender) => (left -= cost(contender)) >= 0)
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
