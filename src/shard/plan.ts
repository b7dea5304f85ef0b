// What a cut model will do as a pipeline, told stage by stage. Pure.
import { bottleneckMs, stageCosts, type CostOptions, type Workload } from './stage-costs.js'

export interface StagePlan {
  device: string
  nodes: number
  weightBytes: number
  /** For one micro-batch. */
  computeMs: number
  transferMs: number
  inBytes: number
  outBytes: number
}

export interface ShardPlan {
  stages: readonly StagePlan[]
  microBatches: number
  /** Between two micro-batches that come out, once the pipeline is full. */
  intervalMs: number
  /** Share of the stages' time in which they wait: (S − 1) ÷ (M + S − 1) for S equal stages and M micro-batches, more for unequal ones. */
  bubbleShare: number
  /** Of the values that pass from stage to stage, for one micro-batch. */
  crossingBytes: number
}

export function planOf(work: Workload, assignment: readonly number[], options: CostOptions & { microBatches: number }): ShardPlan {
  const { devices, microBatches } = options
  const costs = stageCosts(work, assignment, options)
  const crossing = work.values.flatMap(({ producer, consumers, bytes }) => {
    const home = producer === undefined ? undefined : assignment[producer]
    const readers = new Set(consumers.map((consumer) => assignment[consumer]).filter((stage) => stage !== home))
    return home === undefined ? [] : [bytes * readers.size]
  })
  return {
    stages: costs.map((cost, stage) => ({ device: devices[stage]?.name ?? '', nodes: assignment.filter((at) => at === stage).length, ...cost })),
    microBatches,
    intervalMs: bottleneckMs(costs),
    bubbleShare: bubbleShare(
      costs.map(({ computeMs, transferMs }) => computeMs + transferMs),
      microBatches,
    ),
    crossingBytes: crossing.reduce((sum, bytes) => sum + bytes, 0),
  }
}

/** The first micro-batch takes the time of all stages, each further one that of the slowest. */
function bubbleShare(times: readonly number[], microBatches: number): number {
  const sum = times.reduce((total, ms) => total + ms, 0)
  const elapsed = sum + (microBatches - 1) * Math.max(...times)
  return elapsed === 0 ? 0 : 1 - (microBatches * sum) / (times.length * elapsed)
}
