// Measures variants beside their source model in one interleaved run: each candidate once when it is tried, and the best
// together at the end. What was chosen for being fast was chosen among lucky measurements too, and only another
// measurement can tell which those were.
import type { BatchLatency, GateLatency } from '../../measurements.js'
import { profileInterleaved } from '../../runtime/profiler.js'
import type { Contender, TrialRequest } from './contender.js'

/** Latencies of a variant, and the same beside those of the source model. */
export interface Measured {
  latencies: readonly BatchLatency[]
  gateLatencies: readonly GateLatency[]
}

/** Rounds that the profiler runs at least, warm-up included. */
const LEAST_ROUNDS = 7
/** Share of the time that measuring is meant to take: the last round of a batch size may exceed it. */
const MEASURING_SHARE = 0.6
const SOURCE = 'fp32'

/**
 * Measures files by name, `budgetMs` a batch size.
 * @throws FlyweightError `cancelled` when the signal aborts; what the runtime throws
 */
export async function measure(files: ReadonlyMap<string, string>, request: TrialRequest & { budgetMs: number }): Promise<Map<string, Measured>> {
  const { sourceFile, budgetMs, signal, feedsAt, batches, device, threads, onProgress } = request
  const subjects = [{ name: SOURCE, file: sourceFile }, ...[...files].map(([name, file]) => ({ name, file }))]
  const tell = ({ fraction, batch }: { fraction: number; batch: number }) => onProgress?.(fraction, `measuring batch ${batch}`)
  const profiles = await profileInterleaved({ subjects, feedsAt, batches, device, threads, budgetMs, signal, onProgress: tell })
  const parent = profiles.get(SOURCE)!
  return new Map(
    [...files.keys()].map((name) => {
      const { latencies, ratios } = profiles.get(name)!
      const gateLatencies = latencies.map(({ batch, p50Ms }, index) => ({
        batch,
        parentP50Ms: parent.latencies[index]!.p50Ms,
        variantP50Ms: p50Ms,
        ratio: ratios[index]!.ratio,
      }))
      return [name, { latencies, gateLatencies }]
    }),
  )
}

/**
 * Measures as many contenders as can be in `milliseconds`, the fastest first, by recipe; none where the signal aborts before the end.
 * @throws what the runtime throws
 */
export async function measureAgain(contenders: readonly Contender[], request: TrialRequest & { milliseconds: number }): Promise<Map<string, Measured>> {
  const { milliseconds, signal, batches } = request
  const chosen = affordable(contenders, milliseconds)
  if (chosen.length === 0 || signal.aborted) return new Map()
  try {
    const files = new Map(chosen.map(({ recipe, built }) => [recipe, built.file]))
    return await measure(files, { ...request, budgetMs: (milliseconds * MEASURING_SHARE) / batches.length })
  } catch (error) {
    if (signal.aborted) return new Map()
    throw error
  }
}

function affordable(contenders: readonly Contender[], milliseconds: number): Contender[] {
  const cost = (times: readonly number[]) => LEAST_ROUNDS * sum(times)
  const sourceCost = Math.max(0, ...contenders.map(({ built }) => cost(built.report.gate.latencies.map(({ parentP50Ms }) => parentP50Ms))))
  const fastest = [...contenders].sort((a, b) => sum(a.ratios.map(({ ratio }) => ratio)) - sum(b.ratios.map(({ ratio }) => ratio)))
  let left = milliseconds - sourceCost
  return fastest.filter(({ built }) => (left -= cost(built.report.gate.latencies.map(({ variantP50Ms }) => variantP50Ms))) >= 0)
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
