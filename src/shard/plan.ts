// What a cut model will do as a pipeline, told stage by stage. Pure.
import { bottleneckMs, stageCosts, type CostOptions, type Workload } from './stage-costs.js'

export interface StagePlan {
  /** Stages of one rank wait for nothing of each other: parts, of the same nodes. */
  rank: number
  part: number
  device: string
  nodes: number
  weightBytes: number
  /** For one micro-batch. */
  computeMs: number
  transferMs: number
  inBytes: number
  outBytes: number
  /** How much of `inBytes` comes from which stage; the rest are inputs of the whole. */
  reads: readonly { from: number; bytes: number }[]
}

export interface ShardPlan {
  strategy: 'pipeline' | 'tensor'
  stages: readonly StagePlan[]
  microBatches: number
  /** Of one micro-batch on its own. */
  latencyMs: number
  /** Between two micro-batches that come out, once the pipeline is full. */
  intervalMs: number
  /** Share of the stages' time in which they wait: (S − 1) ÷ (M + S − 1) for S equal stages and M micro-batches, more for unequal ones. */
  bubbleShare: number
  /** Of the values that pass from stage to stage, for one micro-batch. */
  crossingBytes: number
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

/** The first micro-batch takes the time of all stages, each further one that of the slowest. */
function bubbleShare(times: readonly number[], microBatches: number): number {
  const sum = times.reduce((total, ms) => total + ms, 0)
  const elapsed = sum + (microBatches - 1) * Math.max(...times)
  return elapsed === 0 ? 0 : 1 - (microBatches * sum) / (times.length * elapsed)
}
