// The gate admits what is finite, faithful and nowhere slower, or small where that is what was promised.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judge, type GateInput } from '#flyweight/compress/gate.js'

const latency = (batch: number, ratio: number) => ({ batch, parentP50Ms: 10, variantP50Ms: 10 * ratio, ratio })
const good: GateInput = {
  changedNodes: 3,
  finite: true,
  fidelity: 0.995,
  minFidelity: 0.99,
  latencies: [latency(1, 0.5), latency(8, 0.4)],
  sizeOnly: false,
  sourceBytes: 1000,
  variantBytes: 300,
}
const inputs = fc.record<GateInput>({
  changedNodes: fc.nat(5),
  finite: fc.boolean(),
  fidelity: fc.oneof(fc.double({ min: 0, max: 1 }), fc.constant(Number.NaN)),
  minFidelity: fc.double({ min: 0, max: 1, noNaN: true }),
  latencies: fc
    .array(fc.oneof(fc.double({ min: 0.1, max: 2 }), fc.constant(Number.NaN)), { maxLength: 4 })
    .map((ratios) => ratios.map((ratio, i) => latency(2 ** i, ratio))),
  sizeOnly: fc.boolean(),
  sourceBytes: fc.nat(1000),
  variantBytes: fc.nat(1000),
})

describe('judge', () => {
  it('admits a variant that is faster everywhere', () => {
    expect(judge(good)).toEqual({
      admitted: true,
      reason: 'not slower than its parent at any batch size: 50 % of its time at batch 1, 40 % of its time at batch 8',
      finite: true,
      latencies: good.latencies,
    })
  })

  it('admits only what changed something, is finite and faithful', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const { admitted, reason } = judge(input)
        if (admitted) expect(input.changedNodes > 0 && input.finite && input.fidelity >= input.minFidelity).toBe(true)
        expect(reason).not.toBe('')
      }),
    )
  })

  it('admits no variant that was measured slower, or not at all', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        if (!input.sizeOnly && judge(input).admitted) {
          expect(input.latencies.length).toBeGreaterThan(0)
          expect(input.latencies.every(({ ratio }) => ratio < 1.05)).toBe(true)
        }
      }),
    )
  })

  it('asks size of size-only variants, not speed', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const verdict = judge({ ...input, changedNodes: 1, finite: true, fidelity: 1, sizeOnly: true })
        expect(verdict.admitted).toBe(input.variantBytes < input.sourceBytes)
      }),
    )
  })

  it('never turns down for being faster, more faithful or smaller', () => {
    fc.assert(
      fc.property(inputs, fc.double({ min: 0.1, max: 1, noNaN: true }), (input, by) => {
        const better = {
          ...input,
          fidelity: 1,
          variantBytes: Math.floor(input.variantBytes * by),
          latencies: input.latencies.map(({ batch, ratio }) => latency(batch, ratio * by)),
        }
        if (judge(input).admitted) expect(judge(better).admitted).toBe(true)
      }),
    )
  })

  it('says what to do about each refusal', () => {
    expect(judge({ ...good, latencies: [latency(1, 0.5), latency(8, 1.3)] }).reason).toBe('it is slower than its parent: 130 % of its time at batch 8')
    expect(judge({ ...good, fidelity: 0.5 }).reason).toContain('policy.minFidelity')
    expect(judge({ ...good, changedNodes: 0 }).reason).toContain('nothing to change')
    expect(judge({ ...good, finite: false }).reason).toContain('not finite')
    expect(judge({ ...good, latencies: [] }).reason).toContain('not measured')
  })
})
