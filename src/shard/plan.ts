// What a cut model will do as a pipeline, told stage by stage. Pure.
import type { ShardPlan, StagePlan } from '../measurements.js'
import { bottleneckMs, linkMs, stageCosts, type CostOptions, type Workload } from './stage-costs.js'

/** What a stage was seen to do with a micro-batch. */
export interface MeasuredStage {
  computeMs: number
  inBytes: number
  outBytes: number
}

export function planOf(work: Workload, assignment: readonly number[], options: CostOptions & { microBatches: number }): ShardPlan {
  const { devices, microBatches, msPerHop = 0 } = options
  const costs = stageCosts(work, assignment, options)
  const crossing = work.values.flatMap(({ producer, consumers, bytes }) => {
    const home = producer === undefined ? undefined : assignment[producer]
    const readers = new Set(consumers.map((consumer) => assignment[consumer]).filter((stage) => stage !== home))
    return home === undefined ? [] : [bytes * readers.size]
  })
  return {
    strategy: 'pipeline',
    stages: costs.map((cost, stage) => ({
      rank: stage,
      part: 0,
      device: devices[stage]?.name ?? '',
      nodes: assignment.filter((at) => at === stage).length,
      ...cost,
      reads: sumsByStage(
        work.values.flatMap(({ producer, consumers, bytes }) => {
          const from = producer === undefined ? stage : assignment[producer]!
          return from !== stage && consumers.some((consumer) => assignment[consumer] === stage) ? [{ from, bytes }] : []
        }),
      ),
    })),
    microBatches,
    latencyMs: costs.reduce((sum, { computeMs, transferMs }) => sum + computeMs + transferMs + msPerHop, 0),
    intervalMs: bottleneckMs(costs),
    bubbleShare: bubbleShare(
      costs.map(({ computeMs, transferMs }) => computeMs + transferMs),
      microBatches,
    ),
    crossingBytes: crossing.reduce((sum, bytes) => sum + bytes, 0),
  }
}

/** One sum of bytes a stage, in their order. */
export function sumsByStage(reads: StagePlan['reads']): StagePlan['reads'] {
  const sums = new Map<number, number>()
  for (const { from, bytes } of reads) sums.set(from, (sums.get(from) ?? 0) + bytes)
  return [...sums].sort(([a], [b]) => a - b).map(([from, bytes]) => ({ from, bytes }))
}

/**
 * The plan with what its stages were seen to do in place of what was expected of them.
 * @param rows of the micro-batches seen, relative to those planned for
 */
export function measuredPlan(
  plan: ShardPlan,
  measured: readonly MeasuredStage[],
  { rows, msPerByte, msPerHop }: { rows: number; msPerByte: number; msPerHop: number },
): ShardPlan {
  const stages = plan.stages.map((stage, index): StagePlan => {
    const seen = measured[index]!
    const reads = stage.reads.map(({ from, bytes }) => ({ from, bytes: Math.round(bytes * rows) }))
    return { ...stage, ...seen, reads, transferMs: linkMs(seen.inBytes + seen.outBytes, msPerByte) }
  })
  const [ranks, busy] = [new Map<number, number>(), new Map<string, number>()]
  for (const { rank, device, computeMs, transferMs } of stages) {
    ranks.set(rank, Math.max(ranks.get(rank) ?? 0, computeMs + transferMs))
    busy.set(device, (busy.get(device) ?? 0) + computeMs + transferMs)
  }
  const total = (times: Iterable<number>) => [...times].reduce((sum, ms) => sum + ms, 0)
  const [throughMs, intervalMs] = [total(ranks.values()), Math.max(...busy.values())]
  const elapsed = throughMs + (plan.microBatches - 1) * intervalMs
  return {
    ...plan,
    stages,
    latencyMs: throughMs + ranks.size * msPerHop,
    intervalMs,
    bubbleShare: elapsed === 0 ? 0 : 1 - (plan.microBatches * total(busy.values())) / (busy.size * elapsed),
    crossingBytes: Math.round(plan.crossingBytes * rows),
  }
}

/** The first micro-batch takes the time of all stages, each further one that of the slowest. */
function bubbleShare(times: readonly number[], microBatches: number): number {
  const sum = times.reduce((total, ms) => total + ms, 0)
  const elapsed = sum + (microBatches - 1) * Math.max(...times)
  return elapsed === 0 ? 0 : 1 - (microBatches * sum) / (times.length * elapsed)
}
