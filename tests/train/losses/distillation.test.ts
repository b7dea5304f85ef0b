import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { floats, int64s } from '../../onnx/running.js'
import { checkLoss, crossEntropyOf, divergenceOf, doubles, random, rowsOf, softmaxOf, valueOf } from './emitted.js'

const student = random([4, 3], 1)
const teacher = random([4, 3], 2)
const softened = (tensor: typeof student, temperature: number) => rowsOf(tensor).map((row) => softmaxOf(row, temperature))

describe('divergence', () => {
  it('is the mean over rows', async () => {
    const expected = divergenceOf(softened(teacher, 1), softened(student, 1))
    expect(await valueOf({ kind: 'kl' }, { prediction: student, target: teacher })).toBeCloseTo(expected, 12)
    expect(await valueOf({ kind: 'kl' }, { prediction: teacher, target: teacher })).toBeCloseTo(0, 12)
  })

  it('takes probabilities, certain ones too', async () => {
    const given = [
      [1, 0, 0],
      [0.5, 0.5, 0],
      [0.2, 0.3, 0.5],
      [0, 0, 1],
    ]
    const feeds = { prediction: student, target: doubles([4, 3], given.flat()) }
    expect(await valueOf({ kind: 'kl', targets: 'probabilities' }, feeds)).toBeCloseTo(divergenceOf(given, softened(student, 1)), 12)
    await checkLoss({ kind: 'kl', targets: 'probabilities' }, feeds)
  })

  it('has the gradient that differences say', async () => {
    await checkLoss({ kind: 'kl' }, { prediction: random([2, 2, 3], 3), target: random([2, 2, 3], 4) })
  })
})

describe('distillation', () => {
  const labels = [2, -1, 0, 1]
  const feeds = { prediction: student, target: teacher, labels: int64s([4], labels) }

  it('weighs the teacher and the labels', async () => {
    const options = fc.record({ alpha: fc.constantFrom(0, 0.3, 0.9, 1), temperature: fc.double({ min: 0.5, max: 20, noNaN: true }) })
    await fc.assert(
      fc.asyncProperty(options, async ({ alpha, temperature }) => {
        const soft = temperature ** 2 * divergenceOf(softened(teacher, temperature), softened(student, temperature))
        const expected = alpha * soft + (1 - alpha) * crossEntropyOf(softened(student, 1), labels)
        expect(await valueOf({ kind: 'distillation', alpha, temperature }, feeds)).toBeCloseTo(expected, 9)
      }),
      { numRuns: 20, seed: 3 },
    )
  })

  it('is the teacher’s alone without labels', async () => {
    const alone = await valueOf({ kind: 'distillation', alpha: 0.3 }, { prediction: student, target: teacher })
    expect(alone).toBeCloseTo(16 * divergenceOf(softened(teacher, 4), softened(student, 4)), 12)
  })

  it('takes probabilities for the scores that give them', async () => {
    const given = { ...feeds, prediction: doubles([4, 3], softened(student, 1).flat()), target: doubles([4, 3], softened(teacher, 1).flat()) }
    const options = { kind: 'distillation', predictions: 'probabilities', targets: 'probabilities' } as const
    expect(await valueOf(options, given)).toBeCloseTo(await valueOf({ kind: 'distillation' }, feeds), 12)
    await checkLoss(options, given, { step: 1e-6 })
  })

  it.each([{}, { alpha: 0 }, { alpha: 1, temperature: 1 }])('has the gradient that differences say, with %j', async (options) => {
    await checkLoss({ kind: 'distillation', ...options }, feeds)
  })

  it('runs in float32', async () => {
    const single = { prediction: floats([4, 3], rowsOf(student).flat()), target: floats([4, 3], rowsOf(teacher).flat()), labels: feeds.labels }
    expect(await valueOf({ kind: 'distillation' }, single)).toBeCloseTo(await valueOf({ kind: 'distillation' }, feeds), 5)
  })
})
