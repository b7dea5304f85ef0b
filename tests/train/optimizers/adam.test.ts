import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { optimizerOf } from '#flyweight/train/optimizers/table.js'
import { course, departure, passes, updates, type Course } from './updates.js'

interface Options {
  beta1?: number
  beta2?: number
  epsilon?: number
  weightDecay?: number
}

/** PyTorch's algorithms for Adam and AdamW and algorithm 2 of the LAMB paper, in double precision. */
function reference(kind: 'adam' | 'adamw' | 'lamb', { start, gradients, rates, counts }: Course, options: Options): number[][] {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = kind === 'lamb' ? 1e-6 : 1e-8, weightDecay = kind === 'adam' ? 0 : 0.01 } = options
  let parameters = start.map(Math.fround)
  const mean = start.map(() => 0)
  const square = start.map(() => 0)
  return gradients.map((raw, index) => {
    const rate = rates[index] as number
    const direction = raw.map((value, i) => {
      const gradient = Math.fround(value) + (kind === 'adam' ? weightDecay * (parameters[i] as number) : 0)
      mean[i] = beta1 * (mean[i] as number) + (1 - beta1) * gradient
      square[i] = beta2 * (square[i] as number) + (1 - beta2) * gradient ** 2
      const correctedMean = mean[i] / (1 - beta1 ** (index + 1))
      const correctedSquare = square[i] / (1 - beta2 ** (index + 1))
      return correctedMean / (Math.sqrt(correctedSquare) + epsilon)
    })
    if (kind === 'lamb') {
      const next: number[] = []
      for (const count of counts) {
        const own = parameters.slice(next.length, next.length + count)
        const along = direction.slice(next.length, next.length + count).map((value, i) => value + weightDecay * (own[i] as number))
        const [ownLength, alongLength] = [Math.hypot(...own), Math.hypot(...along)]
        const trust = ownLength > 0 && alongLength > 0 ? ownLength / alongLength : 1
        next.push(...own.map((value, i) => value - rate * trust * (along[i] as number)))
      }
      parameters = next
    } else {
      const shrink = kind === 'adamw' ? 1 - rate * weightDecay : 1
      parameters = parameters.map((value, i) => value * shrink - rate * (direction[i] as number))
    }
    return parameters
  })
}

const cases: Options[] = [{}, { weightDecay: 0 }, { weightDecay: 0.3 }, { beta1: 0, beta2: 0 }, { beta1: 0.8, beta2: 0.99, epsilon: 1e-3 }]

describe.each(['adam', 'adamw', 'lamb'] as const)('%s', (kind) => {
  it.each(cases)('steps as the formula says, with %j', async (options) => {
    const steps = course([5, 1, 7], 30, 3)
    expect(departure(await updates(optimizerOf({ kind, ...options }), steps), reference(kind, steps, options))).toBeLessThan(2e-6)
  })

  it('steps as the formula says, with any options and tensors', async () => {
    const options = fc.record({
      beta1: fc.double({ min: 0.1, max: 0.99, noNaN: true }),
      beta2: fc.double({ min: 0.5, max: 0.9999, noNaN: true }),
      epsilon: fc.constantFrom(1e-8, 1e-6, 1e-2),
      weightDecay: fc.double({ min: 0, max: 0.5, noNaN: true }),
    })
    const counts = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(options, counts, fc.integer({ min: 1, max: 1000 }), async (options, counts, seed) => {
        const steps = course(counts, 20, seed)
        expect(departure(await updates(optimizerOf({ kind, ...options }), steps), reference(kind, steps, options))).toBeLessThan(2e-5)
      }),
      { numRuns: 20, seed: 4 },
    )
  })

  it('stands still without gradients and decay', async () => {
    const steps = course([4, 2], 3, 5)
    const still = { ...steps, gradients: steps.gradients.map((gradient) => gradient.map(() => 0)) }
    expect(await updates(optimizerOf({ kind, weightDecay: 0 }), still)).toEqual(steps.gradients.map(() => steps.start.map(Math.fround)))
  })

  it('leaves zeros, where it stood for some steps', async () => {
    const steps = course([4, 2], 20, 6)
    const zeros = { ...steps, start: steps.start.map(() => 0), rates: steps.rates.map((rate, step) => (step < 5 ? 0 : rate)) }
    expect(departure(await updates(optimizerOf({ kind }), zeros), reference(kind, zeros, {}))).toBeLessThan(2e-6)
  })
})

describe('passes over memory', () => {
  it.each([
    ['adam', 0, 10],
    ['adam', 0.1, 12],
    ['adamw', 0, 10],
    ['adamw', 0.1, 11],
    ['lamb', 0, 15],
    ['lamb', 0.1, 17],
  ] as const)('of %s with a weight decay of %d: %i', async (kind, weightDecay, expected) => {
    expect(await passes(optimizerOf({ kind, weightDecay }))).toBe(expected)
  })
})
