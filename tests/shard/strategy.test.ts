// Choosing between plans, and finding devices that hold too much.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bestPlan, overfull } from '#flyweight/shard/strategy.js'

describe('bestPlan', () => {
  it('is the best by what is wanted, the first of equals', () => {
    const ms = fc.integer({ min: 1, max: 4 })
    fc.assert(
      fc.property(fc.array(fc.record({ latencyMs: ms, intervalMs: ms }), { minLength: 1, maxLength: 4 }), (plans) => {
        const [latencies, intervals] = [plans.map(({ latencyMs }) => latencyMs), plans.map(({ intervalMs }) => intervalMs)]
        expect(bestPlan(plans, 'latency')).toBe(plans[latencies.indexOf(Math.min(...latencies))])
        expect(bestPlan(plans, 'throughput')).toBe(plans[intervals.indexOf(Math.min(...intervals))])
      }),
    )
  })
})

describe('overfull', () => {
  it('counts all stages of a device', () => {
    const stages = [
      { device: 'a', weightBytes: 60 },
      { device: 'b', weightBytes: 90 },
      { device: 'a', weightBytes: 50 },
    ]
    const devices = [{ name: 'a', budgetBytes: 100 }, { name: 'b', budgetBytes: 100 }, { name: 'c' }]
    expect(overfull(stages, devices)).toEqual([{ device: 'a', bytes: 110, budgetBytes: 100 }])
  })
})
