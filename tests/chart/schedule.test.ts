// The simulated pipeline: nobody does two things at once, nothing starts before what it reads, and rows of stages end
// when the closed form says.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ranksOf, schedule } from '#flyweight/chart/schedule.js'

const times = fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 9 })
const microBatches = fc.integer({ min: 1, max: 12 })
const inRow = (ms: readonly number[]) => ms.map((each, stage) => ({ ms: each, device: String(stage), after: stage === 0 ? [] : [stage - 1] }))
/** Every stage after some of those before it, on one of a few devices. */
const graphs = times.chain((ms) =>
  fc.tuple(
    ...ms.map((each, stage) =>
      fc.record({ ms: fc.constant(each), device: fc.constantFrom('a', 'b', 'c'), after: fc.subarray(Array.from({ length: stage }, (_, before) => before)) }),
    ),
  ),
)

describe('schedule', () => {
  it('lets no device do two things at once, no stage begin before what it reads is there, and nobody wait for nothing', () => {
    fc.assert(
      fc.property(graphs, microBatches, (stages, count) => {
        const spans = schedule(stages, count)
        expect(spans).toHaveLength(stages.length * count)
        const at = (stage: number, microBatch: number) => spans.find((span) => span.stage === stage && span.microBatch === microBatch)!
        for (const { stage, microBatch, startMs, endMs } of spans) {
          const { ms, device, after } = stages[stage]!
          expect(endMs - startMs).toBe(ms)
          const before = [...after.map((each) => at(each, microBatch)), ...(microBatch === 0 ? [] : [at(stage, microBatch - 1)])]
          for (const span of before) expect(startMs).toBeGreaterThanOrEqual(span.endMs)
          // It starts with something's end: of what it reads, or of what its device did.
          const sameDevice = spans.filter((span) => stages[span.stage]!.device === device && (span.stage !== stage || span.microBatch !== microBatch))
          for (const span of sameDevice) expect(span.endMs <= startMs || span.startMs >= endMs).toBe(true)
          expect([0, ...[...before, ...sameDevice].map((span) => span.endMs)]).toContain(startMs)
        }
      }),
      { seed: 20, numRuns: 60 },
    )
  })

  it('ends a row of stages after all of them once and the slowest for each further micro-batch', () => {
    fc.assert(
      fc.property(times, microBatches, (ms, count) => {
        const end = Math.max(...schedule(inRow(ms), count).map(({ endMs }) => endMs))
        expect(end).toBe(ms.reduce((sum, each) => sum + each, 0) + (count - 1) * Math.max(...ms))
      }),
      { seed: 21, numRuns: 100 },
    )
  })

  it('ranks stages by the longest way to them', () => {
    expect(ranksOf([{ after: [] }, { after: [0] }, { after: [0] }, { after: [1, 0] }, { after: [2, 3] }])).toEqual([0, 1, 1, 2, 3])
  })
})
