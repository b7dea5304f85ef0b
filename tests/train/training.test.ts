// Whole trainings on points of a plane: what settings do, and what is refused.
import { describe, expect, it } from 'vitest'
import { precisionOf } from '#flyweight/train/precision.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { runTraining, type TrainingOptions } from '#flyweight/train/training.js'
import { circle, network } from './circle.js'

function options(changed: Partial<TrainingOptions> = {}, settings: object = {}): TrainingOptions {
  return {
    model: network([24]),
    output: 'scores',
    data: circle(),
    settings: completeSettings({ epochs: 30, batchSize: 30, learningRate: 0.02, holdOut: 0.25, ...settings }),
    threads: 1,
    ...changed,
  }
}

describe('training on labels', () => {
  it('learns what the labels say, and says how well on rows it has not seen', async () => {
    const { best, curve, parameters, ended } = await runTraining(options())
    expect(best.heldOut.accuracy).toBeGreaterThan(0.93)
    expect(curve).toHaveLength(30)
    expect(curve[0]?.loss).toBeGreaterThan(2 * (curve.at(-1)?.loss as number))
    expect(parameters).toBe(2 * 24 + 24 + 24 * 2 + 2)
    expect(ended).toBe('steps')
  })

  it('gives the same model for the same seed', async () => {
    const short = options({}, { epochs: 2 })
    const [one, other] = [await runTraining(short), await runTraining(short)]
    expect(one.model.graph.initializer).toEqual(other.model.graph.initializer)
    const third = await runTraining(options({}, { epochs: 2, seed: 9 }))
    expect(third.curve).not.toEqual(one.curve)
  })

  it('gives back the best model, and stops where it gets no better', async () => {
    // So large a rate does nothing but harm.
    const { curve, best, ended } = await runTraining(
      options({}, { optimizer: { kind: 'sgd' }, learningRate: 50, schedule: { kind: 'constant' }, epochs: 50, patience: 3 }),
    )
    expect(ended).toBe('patience')
    expect(curve.length).toBeLessThan(50)
    expect(Math.max(...curve.map(({ heldOut }) => heldOut.accuracy as number))).toBe(best.heldOut.accuracy)
  })

  it('averages parameters over steps when told to', async () => {
    // At so high a rate the last parameters jump about, and their average does not.
    const restless = { optimizer: { kind: 'sgd' }, schedule: { kind: 'constant' }, learningRate: 2, batchSize: 10, epochs: 20 }
    const [plain, averaged] = [await runTraining(options({}, restless)), await runTraining(options({}, { ...restless, average: 0.98 }))]
    expect(averaged.curve.at(-1)?.loss).toBe(plain.curve.at(-1)?.loss)
    expect(averaged.curve.at(-1)?.heldOut.loss).toBeLessThan(plain.curve.at(-1)?.heldOut.loss as number)
  })

  it('ignores rows without a label', async () => {
    const { best } = await runTraining(options({ data: circle({ labelled: (row) => row % 2 === 0 }) }))
    expect(best.heldOut.accuracy).toBeGreaterThan(0.9)
  })

  it('needs labels', async () => {
    await expect(runTraining(options({ data: circle({ withLabels: false }) }))).rejects.toThrow('/data: its rows have no labels')
  })
})

describe('distillation', () => {
  it('teaches a student on rows without labels', async () => {
    const teacher = (await runTraining(options())).model
    const {
      best,
      teacher: judged,
      model,
    } = await runTraining(
      options({ model: teacher, student: { kind: 'mlp', hidden: [12] }, data: circle({ labelled: (row) => row % 40 === 0 }) }, { epochs: 40 }),
    )
    expect(judged?.accuracy).toBeGreaterThan(0.9)
    expect(best.heldOut.accuracy).toBeGreaterThan(0.85)
    expect(model.graph.initializer.map(({ dims }) => dims.map(Number))).toContainEqual([12, 2])
  })

  it('works without any labels at all', async () => {
    const teacher = (await runTraining(options())).model
    const { best, curve } = await runTraining(
      options({ model: teacher, student: { kind: 'mlp', hidden: [12] }, data: circle({ withLabels: false }) }, { epochs: 20 }),
    )
    expect(best.heldOut.accuracy).toBeUndefined()
    expect(best.heldOut.loss).toBeLessThan((curve[0]?.heldOut.loss as number) / 3)
  })
})

describe('settings', () => {
  it.each([
    [{ epoch: 3 }, '/training/epoch: there is no such option'],
    [{ epochs: 0 }, '/training/epochs: got 0'],
    [{ optimizer: { kind: 'adamx' } }, '/training/optimizer/kind: got "adamx", expected one of'],
    [{ optimizer: { kind: 'adamw', beta1: 2 } }, '/training/optimizer/beta1: got 2'],
    [{ loss: { kind: 'nothing' } }, '/training/loss/kind'],
    [{ augment: { shift: -1 } }, '/training/augment/shift'],
    [{ precision: { kind: 'float8' } }, '/training/precision/kind: got "float8", expected one of float32, mixed'],
    [{ precision: { kind: 'mixed', level: 'O2' } }, '/training/precision/level: got "O2"'],
    [{ precision: { kind: 'mixed', lossScale: { initial: 0 } } }, '/training/precision/lossScale/initial: got 0'],
    [{ precision: { kind: 'float32', level: 'graph' } }, '/training/precision/level: there is no such option of float32'],
    [{ parallel: { syncEvery: 0 } }, '/training/parallel/syncEvery: got 0'],
    [{ parallel: { outer: {} } }, '/training/parallel/outer: got one with syncEvery 1, expected'],
    [{ parallel: { syncEvery: 2, outer: { momentum: 1 } } }, '/training/parallel/outer/momentum: got 1'],
    [
      { optimizer: { kind: 'lamb' }, parallel: { shardOptimizer: true } },
      '/training/parallel/shardOptimizer: got true with an optimizer that needs whole tensors',
    ],
    [{ parallel: { shardOptimizer: true, syncEvery: 2 } }, '/training/parallel/shardOptimizer: got true with syncEvery 2, expected 1'],
    [{ parallel: { pipeline: 0 } }, '/training/parallel/pipeline: got 0'],
    [{ parallel: { schedule: 'lifo' } }, '/training/parallel/schedule: got "lifo"'],
    [{ parallel: { pipeline: 2, group: 'lab' } }, '/training/parallel/group: got "lab" with a pipeline of 2 stages'],
    [{ parallel: { pipeline: 2, data: 0 } }, '/training/parallel/data: got 0 with a pipeline'],
    [{ parallel: { pipeline: 2, buckets: 2 } }, '/training/parallel/buckets: got 2 with a pipeline'],
    [{ parallel: { pipeline: 2, syncEvery: 2 } }, '/training/parallel/syncEvery: got 2 with a pipeline'],
    [{ parallel: { pipeline: 2, shardOptimizer: true } }, '/training/parallel/shardOptimizer: got true with a pipeline'],
    [{ parallel: { pipeline: 2 }, parts: 2 }, '/training/parallel/pipeline: got 2 with parts of 2, expected microBatches in place of parts'],
    [3, '/training: got 3'],
  ])('%j are refused', (given, message) => {
    expect(() => completeSettings(given)).toThrow(message)
  })

  it('have defaults', () => {
    expect(completeSettings({})).toMatchObject({
      epochs: 10,
      batchSize: 64,
      optimizer: { kind: 'adamw' },
      schedule: { kind: 'cosine' },
      augment: { shift: 0, mirror: false },
    })
  })

  it('of mixed precision have defaults', () => {
    expect(precisionOf({ kind: 'mixed' })).toEqual({ autocast: 'products', lossScale: { initial: 65536, growthSteps: 2000 } })
    expect(precisionOf({ kind: 'float32' })).toEqual({})
  })

  it('that change images are refused where there are none', async () => {
    await expect(runTraining(options({}, { augment: { shift: 1 } }))).rejects.toThrow('/augment: expected images')
  })
})
