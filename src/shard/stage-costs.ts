// What an assignment of nodes to stages costs: time and weights of each stage, and the bytes that pass between them.
// The measure that partitions are chosen by. Pure.

/** A model as the partitioner sees it. */
export interface Workload {
  /** In an order in which they can be computed. */
  nodes: readonly {
    /** Time on a device of speed 1. */
    ms: number
    /** Indices of the weights it reads, each once. */
    weights: readonly number[]
  }[]
  /** Bytes of each weight; a stage holds a weight once, however many of its nodes read it. */
  weights: readonly number[]
  values: readonly {
    /** Index of the node that writes it; undefined for an input of the whole. */
    producer: number | undefined
    /** Indices of the nodes that read it, ascending. */
    consumers: readonly number[]
    /** Infinity for what cannot pass between stages. */
    bytes: number
    /** It is an output of the whole. */
    output: boolean
  }[]
}

/** Where one stage runs. */
export interface StageDevice {
  name: string
  /** Weights that it may hold; default: any. */
  budgetBytes?: number
  /** Its share of the speed that nodes were measured at; default 1. */
  speed?: number
}

export interface StageCost {
  computeMs: number
  transferMs: number
  weightBytes: number
  /** Of the values that it reads from outside, and of those that it hands on. */
  inBytes: number
  outBytes: number
}

export interface CostOptions {
  /** One a stage, in order. */
  devices: readonly StageDevice[]
  /** Of a value's way into a stage, and of its way out of one; default 0. */
  msPerByte?: number
  /** Until a stage begins after those it waits for; default 0. */
  msPerHop?: number
}

export function stageCosts({ nodes, weights, values }: Workload, assignment: readonly number[], { devices, msPerByte = 0 }: CostOptions): StageCost[] {
  const costs = devices.map(() => ({ computeMs: 0, transferMs: 0, weightBytes: 0, inBytes: 0, outBytes: 0 }))
  const held = devices.map(() => new Set<number>())
  for (const [index, node] of nodes.entries()) {
    const stage = assignment[index] as number
    const cost = costs[stage] as StageCost
    cost.computeMs += node.ms / (devices[stage]?.speed ?? 1)
    for (const weight of node.weights) {
      if (held[stage]?.has(weight)) continue
      held[stage]?.add(weight)
      cost.weightBytes += weights[weight] as number
    }
  }
  for (const { producer, consumers, bytes, output } of values) {
    const home = producer === undefined ? undefined : (assignment[producer] as number)
    const readers = new Set(consumers.map((consumer) => assignment[consumer] as number))
    if (home !== undefined) {
      readers.delete(home)
      if (output || readers.size > 0) (costs[home] as StageCost).outBytes += bytes
    }
    for (const reader of readers) (costs[reader] as StageCost).inBytes += bytes
  }
  for (const cost of costs) cost.transferMs = linkMs(cost.inBytes + cost.outBytes, msPerByte)
  return costs
}

/** The slowest stage decides how many batches a second the pipeline computes. */
export function bottleneckMs(costs: readonly StageCost[]): number {
  return Math.max(...costs.map(({ computeMs, transferMs }) => computeMs + transferMs))
}

/** All that is handed to stages. */
export function crossingBytes(costs: readonly StageCost[]): number {
  return costs.reduce((sum, { inBytes }) => sum + inBytes, 0)
}

/** What cannot pass takes forever, however fast the link. */
export function linkMs(bytes: number, msPerByte: number): number {
  return bytes === Infinity ? Infinity : bytes * msPerByte
}
