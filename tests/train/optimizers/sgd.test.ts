import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { optimizerOf } from '#flyweight/train/optimizers/table.js'
import { course, departure, passes, updates, type Course } from './updates.js'

/** PyTorch's algorithm for SGD (dampening 0), in double precision. */
function reference({ start, gradients, rates }: Course, { momentum = 0, nesterov = false, weightDecay = 0 }): number[][] {
  let parameters = start.map(Math.fround)
  let buffer: number[] | undefined
  return gradients.map((raw, step) => {
    let direction = raw.map((value, i) => Math.fround(value) + weightDecay * (parameters[i] as number))
    if (momentum !== 0) {
      const before = buffer
      buffer = before === undefined ? direction : direction.map((value, i) => momentum * (before[i] as number) + value)
      direction = nesterov ? direction.map((value, i) => value + momentum * (buffer?.[i] as number)) : buffer
    }
    parameters = parameters.map((value, i) => value - (rates[step] as number) * (direction[i] as number))
    return parameters
  })
}

describe('SGD', () => {
  it.each([
    {},
    { weightDecay: 0.1 },
    { momentum: 0.9 },
    { momentum: 0.9, nesterov: true },
    { momentum: 0.9, weightDecay: 0.1 },
    { momentum: 0.95, nesterov: true, weightDecay: 0.01 },
  ])('steps as the formula says, with %j', async (options) => {
    const steps = course([5, 7], 30, 1)
    expect(departure(await updates(optimizerOf({ kind: 'sgd', ...options }), steps), reference(steps, options))).toBeLessThan(1e-6)
  })

  it('steps as the formula says, with any options', async () => {
    const options = fc.record({
      momentum: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
      nesterov: fc.boolean(),
      weightDecay: fc.double({ min: 0, max: 0.5, noNaN: true }),
    })
    await fc.assert(
      fc.asyncProperty(options, fc.integer({ min: 1, max: 1000 }), async (options, seed) => {
        const steps = course([4], 20, seed)
        expect(departure(await updates(optimizerOf({ kind: 'sgd', ...options }), steps), reference(steps, options))).toBeLessThan(5e-6)
      }),
      { numRuns: 20, seed: 2 },
    )
  })

  it.each([
    [{}, 2],
    [{ weightDecay: 0.1 }, 3],
    [{ momentum: 0.9 }, 4],
    [{ momentum: 0.9, nesterov: true }, 5],
    [{ momentum: 0.9, weightDecay: 0.1 }, 6],
  ])('with %j makes %i passes over memory', async (options, expected) => {
    expect(await passes(optimizerOf({ kind: 'sgd', ...options }))).toBe(expected)
  })

  it('refuses Nesterov’s momentum of none', () => {
    expect(() => optimizerOf({ kind: 'sgd', nesterov: true })).toThrow('/optimizer/nesterov: got true without momentum, expected a momentum above 0')
  })
})
