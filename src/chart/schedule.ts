// When which stage of a pipeline works on which micro-batch: whatever can start first does, of equals the oldest
// micro-batch, and a device does one thing at a time. Pure simulation; draws nothing.

export interface ScheduledStage {
  ms: number
  device: string
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
 * Spans in the order in which they start. For stages in a row, on a device each, the last ends after
 * Σms + (M − 1) · max ms: the makespan of a permutation flow shop with equal jobs (Johnson, 1954).
 */
export function schedule(stages: readonly ScheduledStage[], microBatches: number): Span[] {
  const spans: Span[] = []
  /** By stage, when it is done with each micro-batch. */
  const done = stages.map((): number[] => [])
  const free = new Map<string, number>()
  while (spans.length < stages.length * microBatches) {
    const next = stages.flatMap(({ ms, device, after }, stage) => {
      const microBatch = done[stage]!.length
      const ready = after.every((before) => microBatch < done[before]!.length)
      if (microBatch === microBatches || !ready) return []
      const startMs = Math.max(free.get(device) ?? 0, ...after.map((before) => done[before]![microBatch]!))
      return [{ stage, microBatch, startMs, endMs: startMs + ms }]
    })
    const first = next.reduce((best, span) =>
      span.startMs < best.startMs || (span.startMs === best.startMs && span.microBatch < best.microBatch) ? span : best,
    )
    spans.push(first)
    done[first.stage]!.push(first.endMs)
    free.set(stages[first.stage]!.device, first.endMs)
  }
  return spans
}

/** How many stages have to come one after the other before each: equal ones may work on a micro-batch at once. */
export function ranksOf(stages: readonly Pick<ScheduledStage, 'after'>[]): number[] {
  const ranks: number[] = []
  for (const { after } of stages) ranks.push(after.reduce((rank, before) => Math.max(rank, ranks[before]! + 1), 0))
  return ranks
}
