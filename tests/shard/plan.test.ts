// What a plan tells of a pipeline, against a simulation of it and against the textbook's formula.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { planOf } from '#flyweight/shard/plan.js'
import type { Workload } from '#flyweight/shard/stage-costs.js'

const chain = (ms: readonly number[]): Workload => ({
  nodes: ms.map((each) => ({ ms: each, weights: [] })),
  weights: [],
  values: ms.map((_, index) => ({ producer: index, consumers: index + 1 < ms.length ? [index + 1] : [], bytes: 10, output: index + 1 === ms.length })),
})
const plan = (ms: readonly number[], microBatches: number) =>
  planOf(
    chain(ms),
    ms.map((_, stage) => stage),
    { devices: ms.map((_, stage) => ({ name: `cpu:${stage}` })), microBatches },
  )

/** When each stage is done with each micro-batch: it begins when the stage before is done with it, and itself with the last. */
function waitingShare(ms: readonly number[], microBatches: number): number {
  const done = ms.map(() => 0)
  for (let batch = 0; batch < microBatches; batch++) {
    for (const [stage, each] of ms.entries()) done[stage] = Math.max(done[stage]!, done[stage - 1] ?? 0) + each
  }
  const busy = microBatches * ms.reduce((sum, each) => sum + each, 0)
  return 1 - busy / (ms.length * done.at(-1)!)
}

describe('plans', () => {
  it('tell the bubble of equal stages by the formula', () => {
    for (const [stages, batches] of [
      [2, 1],
      [3, 4],
      [4, 8],
    ] as const) {
      expect(plan(new Array<number>(stages).fill(5), batches).bubbleShare).toBeCloseTo((stages - 1) / (batches + stages - 1), 12)
    }
  })

  it('tell the bubble of any stages as a simulation does', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 20 }), (ms, batches) => {
        expect(plan(ms, batches).bubbleShare).toBeCloseTo(waitingShare(ms, batches), 9)
      }),
      { seed: 1 },
    )
  })

  it('count what passes between stages, and not what comes from outside or leaves', () => {
    const { crossingBytes, intervalMs, stages } = plan([1, 4, 2], 3)
    expect({ crossingBytes, intervalMs }).toEqual({ crossingBytes: 20, intervalMs: 4 })
    expect(stages.map(({ device, nodes, outBytes }) => [device, nodes, outBytes])).toEqual([
      ['cpu:0', 1, 10],
      ['cpu:1', 1, 10],
      ['cpu:2', 1, 10],
    ])
    expect(stages.map(({ reads }) => reads)).toEqual([[], [{ from: 0, bytes: 10 }], [{ from: 1, bytes: 10 }]])
  })
})
