// Measures the contenders of a search once more, all beside the source model in one interleaved run: what was chosen
// for being fast was chosen among lucky measurements too, and only a measurement of its own can tell which those were.
import { profileInterleaved } from '../../runtime/profiler.js'
import type { Contender, Measured, TrialRequest } from './trial.js'

/** Rounds that the profiler runs at least, warm-up included. */
const LEAST_ROUNDS = 7
/** Share of the time that measuring is meant to take: the last round of a batch size may exceed it. */
const MEASURING_SHARE = 0.6
const SOURCE = 'fp32'

/**
 * As many contenders as can be measured in `milliseconds`, the fastest first; none where `signal` aborts before the end.
 * @throws what the runtime throws
 */
export async function remeasure(contenders: readonly Contender[], request: TrialRequest & { milliseconds: number }): Promise<Map<Contender, Measured>> {
  const { sourceFile, milliseconds, signal, feedsAt, batches, device, threads } = request
  const chosen = affordable(contenders, milliseconds)
  if (chosen.length === 0 || signal.aborted) return new Map()
  const subjects = [{ name: SOURCE, file: sourceFile }, ...chosen.map(({ recipe, built }) => ({ name: recipe, file: built.file }))]
  const budgetMs = (milliseconds * MEASURING_SHARE) / batches.length
  try {
    const profiles = await profileInterleaved({ subjects, feedsAt, batches, device, threads, budgetMs, signal })
    const parent = profiles.get(SOURCE)!
    return new Map(
      chosen.map((contender) => {
        const { latencies, ratios } = profiles.get(contender.recipe)!
        const gateLatencies = latencies.map(({ batch, p50Ms }, index) => ({
          batch,
          parentP50Ms: parent.latencies[index]!.p50Ms,
          variantP50Ms: p50Ms,
          ratio: ratios[index]!.ratio,
        }))
        return [contender, { latencies, gateLatencies }]
      }),
    )
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
