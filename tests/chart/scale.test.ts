import { linearAxis, logAxis } from '#flyweight/chart/scale.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const range = [0, 500] as const
const texts = ({ ticks }: { ticks: readonly { text: string }[] }) => ticks.map(({ text }) => text)

describe('axes', () => {
  it('have ticks at round values, written with the digits they need', () => {
    expect(texts(linearAxis({ domain: [0.97, 1], range, margin: 0, count: 6 }))).toEqual(['0.970', '0.975', '0.980', '0.985', '0.990', '0.995', '1.000'])
    expect(texts(logAxis({ domain: [0.3, 12], range, margin: 0, count: 8 }))).toEqual(['0.5', '1', '2', '5', '10'])
    expect(texts(logAxis({ domain: [0.6, 1.1], range, margin: 0, count: 6 }))).toEqual(['0.6', '0.7', '0.8', '0.9', '1.0', '1.1'])
  })

  it('place the ends of the domain at the ends of the range, and halves of a ratio equally far apart', () => {
    const axis = logAxis({ domain: [0.25, 1], range, margin: 10, count: 5 })
    expect([0.25, 0.5, 1].map((value) => axis.place(value))).toEqual([0, 250, 500])
    expect(linearAxis({ domain: [0, 2], range: [400, 0], margin: 10, count: 5 }).place(0.5)).toBe(300)
  })

  it('have from 2 to 20 ticks whatever the domain, all inside what is drawn and in different texts', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-4, max: 1e4, noNaN: true }), fc.double({ min: 1.001, max: 1e5, noNaN: true }), (low, times) => {
        for (const axis of [linearAxis, logAxis]) {
          const { ticks, place } = axis({ domain: [low, low * times], range, margin: 20, count: 6 })
          expect(ticks.length).toBeGreaterThanOrEqual(2)
          expect(ticks.length).toBeLessThanOrEqual(20)
          expect(new Set(texts({ ticks })).size).toBe(ticks.length)
          for (const { value } of ticks) expect(place(value)).toSatisfy((pixel: number) => pixel >= -20.001 && pixel <= 520.001)
        }
      }),
    )
  })
})
