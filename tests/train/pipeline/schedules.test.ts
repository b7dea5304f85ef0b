// Orders of passes, played through by a machine that knows only what a pass waits for.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { schedules, type Pass } from '#flyweight/train/pipeline/schedules.js'

const names = ['gpipe', '1f1b'] as const
const sizes = fc.record({ name: fc.constantFrom(...names), stages: fc.integer({ min: 1, max: 8 }), micro: fc.integer({ min: 1, max: 12 }) })

/** When each pass ends if every stage takes its passes in order, each as soon as it can; throws where none can go on. */
function play(orders: readonly (readonly Pass[])[], { forward, backward }: { forward: number; backward: number }): Map<string, number> {
  const ends = new Map<string, number>()
  const next = orders.map(() => 0)
  const free = orders.map(() => 0)
  for (let left = orders.flat().length; left > 0; ) {
    const before = left
    for (const [stage, order] of orders.entries()) {
      const one = order[next[stage] as number]
      if (one === undefined) continue
      const { pass, micro } = one
      const needs =
        pass === 'forward'
          ? stage === 0
            ? []
            : [`forward ${stage - 1} ${micro}`]
          : [`forward ${stage} ${micro}`, ...(stage === orders.length - 1 ? [] : [`backward ${stage + 1} ${micro}`])]
      if (!needs.every((need) => ends.has(need))) continue
      free[stage] = Math.max(free[stage] as number, ...needs.map((need) => ends.get(need) as number)) + (pass === 'forward' ? forward : backward)
      ends.set(`${pass} ${stage} ${micro}`, free[stage])
      next[stage]! += 1
      left -= 1
    }
    if (left === before) throw new Error('no stage can go on')
  }
  return ends
}

function mostInFlight(order: readonly Pass[]): number {
  let [now, most] = [0, 0]
  for (const { pass } of order) {
    now += pass === 'forward' ? 1 : -1
    most = Math.max(most, now)
  }
  return most
}

describe('schedules', () => {
  it('take every micro-batch once forward and once backward in each stage, and never wait for each other', () => {
    fc.assert(
      fc.property(sizes, ({ name, stages, micro }) => {
        const orders = schedules[name](stages, micro)
        expect(orders).toHaveLength(stages)
        const all = (pass: Pass['pass']) => Array.from({ length: micro }, (_, index) => ({ pass, micro: index }))
        for (const order of orders) {
          expect(order).toHaveLength(2 * micro)
          // Running statistics go from micro-batch to micro-batch, so that their order counts, too.
          for (const pass of ['forward', 'backward'] as const) expect(order.filter((one) => one.pass === pass)).toEqual(all(pass))
        }
        expect(play(orders, { forward: 1, backward: 2 }).size).toBe(2 * micro * stages)
      }),
    )
  })

  it('hold as many micro-batches as the papers say', () => {
    fc.assert(
      fc.property(sizes, ({ name, stages, micro }) => {
        const held = schedules[name](stages, micro).map(mostInFlight)
        expect(held).toEqual(held.map((_, stage) => (name === 'gpipe' ? micro : Math.min(stages - stage, micro))))
      }),
    )
  })

  it('stand still for the share (S − 1)/(M + S − 1) of the time', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 5 }), ({ name, stages, micro }, backward) => {
        const total = Math.max(...play(schedules[name](stages, micro), { forward: 1, backward }).values())
        const idle = 1 - (micro * (1 + backward)) / total
        expect(idle).toBeCloseTo((stages - 1) / (micro + stages - 1), 10)
      }),
    )
  })
})
