// Training by stages against training in one process.
import { subscribe } from 'node:diagnostics_channel'
import type { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { threadStages } from '#flyweight/train/pipeline/thread-stages.js'
import { distance, trained } from '../parallel/trained.js'
import { inlineStages } from './inline-stages.js'
import { piped } from './piped.js'

const momentum = { optimizer: { kind: 'sgd', momentum: 0.9 }, learningRate: 0.1 }
// The bias of an attention's keys has a gradient of zero but for rounding, whose sign Adam would follow.
const adamw = { optimizer: { kind: 'adamw', epsilon: 1e-3 }, learningRate: 0.01, clipNorm: 0.05, average: 0.9 }
const schedules = ['gpipe', '1f1b'] as const

describe('a pipeline', () => {
  const cases = (['mlp', 'cnn', 'normalized', 'vit', 'shared'] as const).flatMap((network, index) => [
    { network, settings: momentum, pipeline: 2 + (index % 2), microBatches: [1, 2, 4][index % 3] as number },
    { network, settings: adamw, pipeline: 3 - (index % 2), microBatches: [2, 4, 3][index % 3] as number },
  ])
  it.each(cases)('of $pipeline stages makes of $network what one process does in $microBatches parts: $settings.optimizer.kind', async (given) => {
    const { pipeline, microBatches, network, settings } = given
    const batchSize = 4 * microBatches
    const of = { network, settings: { ...settings, batchSize }, steps: 4 } as const
    const alone = await trained({ ...of, settings: { ...of.settings, parts: microBatches } })
    // Each network has every schedule with and without recomputation, by one optimizer or the other.
    for (const [index, schedule] of schedules.entries()) {
      const recompute = (index === 0) === (settings === adamw)
      const together = await piped({ ...of, parallel: { pipeline, microBatches, schedule, recompute } })
      expect(distance(together.state, alone.state), `${schedule}, ${recompute}`).toBeLessThan(1e-5)
      for (const [step, loss] of alone.losses.entries()) expect(together.losses[step]).toBeCloseTo(loss, 5)
    }
    expect(alone.losses.at(-1)).not.toBeCloseTo(alone.losses[0] as number, 3)
  })

  it.each(schedules)('is divided over rows, too, evenly or not: %s', async (schedule) => {
    const of = { network: 'cnn', settings: { ...adamw, batchSize: 11 }, steps: 4 } as const
    const alone = await trained(of)
    const together = await piped({ ...of, parallel: { pipeline: 2, data: 2, microBatches: 3, schedule } })
    expect(distance(together.state, alone.state)).toBeLessThan(1e-5)
  })

  it('moves statistics by the mean over replicas', async () => {
    const of = { network: 'normalized', settings: { ...momentum, learningRate: 0.001 }, steps: 1 } as const
    const alone = await trained(of)
    const together = await piped({ ...of, parallel: { pipeline: 2, data: 2, microBatches: 1 } })
    const [running, expected] = [together.state.vectors.statistics as Float32Array, alone.state.vectors.statistics as Float32Array]
    for (let channel = 0; channel < running.length / 2; channel++) expect(running[channel]).toBeCloseTo(expected[channel] as number, 6)
  })

  it('scales losses, and leaves out the steps that overflow on all stages alike', async () => {
    const precision = { kind: 'mixed', level: 'products', lossScale: { initial: 2 ** 24, growthSteps: 2 } }
    const of = { network: 'mlp', settings: { ...momentum, precision }, steps: 6 } as const
    const alone = await trained(of)
    const together = await piped({ ...of, parallel: { pipeline: 2, microBatches: 1 } })
    expect(together.state.vectors['loss_scale']).toEqual(alone.state.vectors['loss_scale'])
    expect(distance(together.state, alone.state)).toBeLessThan(1e-3)
  })

  it('trains what is not frozen, be it in one stage alone', async () => {
    const of = { network: 'cnn', settings: { ...adamw, freeze: ['k', 'kb'] }, steps: 4 } as const
    const alone = await trained(of)
    const together = await piped({ ...of, parallel: { pipeline: 2, microBatches: 2 } })
    expect(distance(together.state, alone.state)).toBeLessThan(1e-5)
  })

  it('keeps less by 1F1B than by GPipe, and least by computing anew', async () => {
    const peak = async (schedule: string, recompute: boolean) => {
      const { engine } = await piped({ network: 'vit', settings: momentum, steps: 2, parallel: { pipeline: 3, microBatches: 8, schedule, recompute } })
      return engine.peakStashBytes
    }
    const [all, few, anew] = [await peak('gpipe', false), await peak('1f1b', false), await peak('1f1b', true)]
    // All eight micro-batches against three, two and one.
    expect(few[0]).toBe(((all[0] as number) / 8) * 3)
    expect(few[1]).toBe(((all[1] as number) / 8) * 2)
    expect(few[2]).toBeLessThan((all[2] as number) / 8)
    for (const [stage, bytes] of anew.entries()) expect(bytes).toBeLessThanOrEqual(few[stage] as number)
    expect(anew[0]).toBeLessThan(few[0] as number)
  })

  it('hands one gradient of a value to the stage that it came from, however many read it', async () => {
    const stages = inlineStages({ stages: 2, replicas: 1 })
    await piped({ network: 'vit', settings: momentum, steps: 1, parallel: { pipeline: 2, microBatches: 1 }, stages })
    const to = (direction: string) => [...stages.handed].filter((one) => one.startsWith(direction)).length
    expect(to('0 → 1')).toBeGreaterThan(0)
    expect(to('1 → 0')).toBe(to('0 → 1'))
  })

  it('goes on from a state to the same bits', async () => {
    const of = { network: 'mlp', settings: adamw, parallel: { pipeline: 2, microBatches: 2 } } as const
    const whole = await piped({ ...of, steps: 6, newsEvery: 3 })
    const half = await piped({ ...of, steps: 3 })
    expect((await piped({ ...of, steps: 6, resume: half.state })).state).toEqual(whole.state)
  })

  it('refuses more micro-batches than rows', async () => {
    const of = { network: 'mlp', settings: momentum, steps: 1 } as const
    await expect(piped({ ...of, parallel: { pipeline: 2, data: 2, microBatches: 5 } })).rejects.toThrow(
      '/parallel/microBatches: got 5 in each of 2 pipelines, expected no more than the 8 rows of a step',
    )
  })

  it('refuses more stages than there are nodes', async () => {
    const of = { network: 'mlp', settings: momentum, steps: 1 } as const
    await expect(piped({ ...of, parallel: { pipeline: 20 } })).rejects.toThrow('fewer than the 20 stages asked for')
  })
})

describe('stages in threads', () => {
  it('make the same bits, and end the training where one dies', async () => {
    const of = { network: 'mlp', settings: momentum, steps: 4, newsEvery: 2, parallel: { pipeline: 2, microBatches: 2 } } as const
    const workers: Worker[] = []
    subscribe('worker_threads', (event) => workers.push((event as { worker: Worker }).worker))
    const stages = threadStages({ stages: 2, replicas: 1 })
    expect((await piped({ ...of, stages })).state).toEqual((await piped(of)).state)
    const dying = threadStages({ stages: 2, replicas: 1 })
    const training = piped({ ...of, stages: dying, onNews: (step) => void (step === 2 && workers.at(-1)?.terminate()) })
    await expect(training).rejects.toThrow('stage 1 of pipeline 0 was lost: its thread exited with code 1')
  })
})
