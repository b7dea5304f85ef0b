// When which stage of a pipeline works on which micro-batch: each stage takes micro-batches in their order, as soon as
// all it waits for have done them. Pure simulation; draws nothing.

export interface ScheduledStage {
  ms: number
  /** Stages before it whose values it reads. */
  after: readonly number[]
}

export interface Span {
  stage: number
  microBatch: number
  startMs: number
  endMs: number
}

/**
 * Spans by stage, then by micro-batch. For S stages in a row the last ends after Σms + (M − 1) · max ms: the makespan of
 * a permutation flow shop with equal jobs (Johnson, 1954).
 */
export function schedule(stages: readonly ScheduledStage[], microBatches: number): Span[] {
  const spans: Span[][] = []
  for (const [stage, { ms, after }] of stages.entries()) {
    const own: Span[] = []
    for (let microBatch = 0; microBatch < microBatches; microBatch++) {
      const startMs = Math.max(0, own.at(-1)?.endMs ?? 0, ...after.map((before) => spans[before]![microBatch]!.endMs))
      own.push({ stage, microBatch, startMs, endMs: startMs + ms })
    }
    spans.push(own)
  }
  return spans.flat()
}

/** How many stages have to come one after the other before each: equal ones may work on a micro-batch at once. */
export function ranksOf(stages: readonly Pick<ScheduledStage, 'after'>[]): number[] {
  const ranks: number[] = []
  for (const { after } of stages) ranks.push(after.reduce((rank, before) => Math.max(rank, ranks[before]! + 1), 0))
  return ranks
}
