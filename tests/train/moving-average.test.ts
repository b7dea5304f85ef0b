import { describe, expect, it } from 'vitest'
import { AVERAGE, withMovingAverage } from '#flyweight/train/moving-average.js'
import { optimizerOf } from '#flyweight/train/optimizers/table.js'
import { course, departure, passes, slotAfter, updates } from './optimizers/updates.js'

describe('a moving average of parameters', () => {
  const adam = optimizerOf({ kind: 'adam' })
  const steps = course([3, 4], 40, 7)

  it.each([0.5, 0.9, 0.999])('follows them with a decay of %d', async (decay) => {
    const averaged = withMovingAverage(adam, decay)
    expect(averaged.slots).toEqual([...adam.slots, AVERAGE])
    const parameters = await updates(adam, steps)
    expect(await updates(averaged, steps)).toEqual(parameters)
    let average = steps.start.map(() => 0)
    const expected = parameters.map((values, index) => {
      const kept = Math.min(decay, index / (index + 9))
      average = average.map((before, i) => kept * before + (1 - kept) * (values[i] as number))
      return average
    })
    const averages = await slotAfter(averaged, AVERAGE, steps)
    expect(averages[0]).toEqual(parameters[0])
    expect(departure(averages, expected)).toBeLessThan(1e-6)
  })

  it('costs three passes over memory', async () => {
    expect((await passes(withMovingAverage(adam, 0.9))) - (await passes(adam))).toBe(3)
  })
})
