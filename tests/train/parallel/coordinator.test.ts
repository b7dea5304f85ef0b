// Training by ranks in threads of their own against training in one process.
import { subscribe } from 'node:diagnostics_channel'
import type { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { threadRanks } from '#flyweight/train/parallel/thread-ranks.js'
import { inlineRanks } from './inline-ranks.js'
import { distance, trained, type TrainedBy } from './trained.js'

const momentum = { optimizer: { kind: 'sgd', momentum: 0.9 }, learningRate: 0.1 }
const adamw = { optimizer: { kind: 'adamw' }, learningRate: 0.01 }

describe('ranks', () => {
  const cases: (TrainedBy & { ranks?: never; count: number })[] = [
    { network: 'mlp', settings: momentum, count: 2 },
    { network: 'mlp', settings: { ...adamw, clipNorm: 0.05, average: 0.9 }, count: 3 },
    { network: 'cnn', settings: { ...momentum, clipNorm: 0.05 }, count: 3 },
    { network: 'cnn', settings: { ...adamw, parts: 2 }, count: 2 },
    { network: 'cnn', settings: { ...momentum, parts: 2, freeze: ['w'] }, count: 3 },
  ]
  it.each(cases)('$count make of $network what one process does: $settings', async ({ count, ...given }) => {
    const [alone, together] = [await trained(given), await trained({ ...given, ranks: inlineRanks(count) })]
    expect(distance(together.state, alone.state)).toBeLessThan(1e-5)
    expect(together.state.step).toBe(20)
    for (const [step, loss] of alone.losses.entries()) expect(together.losses[step]).toBeCloseTo(loss, 5)
    // Far enough that the same weights are no accident.
    expect(alone.losses.at(-1)).not.toBeCloseTo(alone.losses[0] as number, 1)
  })

  it.each([
    { network: 'cnn', settings: { ...adamw, parallel: { buckets: 3 } } },
    { network: 'normalized', settings: { ...momentum, parts: 2 } },
  ] as const)('make the same bits every time, in threads that share memory or not: $network', async (given) => {
    const states = [await trained({ ...given, ranks: inlineRanks(3) }), await trained({ ...given, ranks: threadRanks(3) })]
    expect(states[1]).toEqual(states[0])
  })

  it('normalize by the rows of each, and take the mean of their statistics', async () => {
    const given = { network: 'normalized', settings: { ...momentum, learningRate: 0.001 }, steps: 1 } as const
    const [alone, together] = [await trained(given), await trained({ ...given, ranks: inlineRanks(2) })]
    // The mean over ranks of the mean over rows is the mean over all rows; the variance is smaller by that of the means.
    const [running, expected] = [together.state.vectors.statistics as Float32Array, alone.state.vectors.statistics as Float32Array]
    const channels = running.length / 2
    for (let channel = 0; channel < channels; channel++) {
      expect(running[channel]).toBeCloseTo(expected[channel] as number, 6)
      expect(running[channels + channel]).toBeLessThanOrEqual(expected[channels + channel] as number)
    }
    expect(running).not.toEqual(expected)
    expect(together.losses[0]).not.toBeCloseTo(alone.losses[0] as number, 5)
  })
})

describe('a rank that is lost', () => {
  const given = { network: 'mlp', settings: adamw, newsEvery: 5 } as const

  it('has its round begun again by those left', async () => {
    const alone = await trained(given)
    const ranks = inlineRanks(3)
    let buckets = 0
    ranks.onMessage = (link, { kind }) => {
      // In the midst of the second round.
      if (link === 'rank-0' && kind === 'bucket' && ++buckets === 8) ranks.lose('rank-0')
    }
    const together = await trained({ ...given, ranks })
    expect(distance(together.state, alone.state)).toBeLessThan(1e-5)
    const begun = ranks.log.flatMap(({ link, message }) => (message.kind === 'round' ? [`${link}: ${message.round} from ${message.from}`] : []))
    expect(begun.slice(0, 3)).toEqual(['rank-0: 1 from undefined', 'rank-1: 1 from undefined', 'rank-2: 1 from undefined'])
    expect(begun.slice(3)).toEqual([
      ...['rank-0: 2 from 1', 'rank-1: 2 from 1', 'rank-2: 2 from 1'],
      ...['rank-1: 3 from 1', 'rank-2: 3 from 1', 'rank-1: 4 from 3', 'rank-2: 4 from 3', 'rank-1: 5 from 4', 'rank-2: 5 from 4'],
    ])
  })

  it('may be a thread that dies', async () => {
    const alone = await trained(given)
    const workers: Worker[] = []
    subscribe('worker_threads', (event) => workers.push((event as { worker: Worker }).worker))
    const ranks = threadRanks(2)
    const sizes: number[] = []
    const together = await trained({
      ...given,
      ranks,
      onNews: (step) => {
        sizes.push(ranks.links.size)
        if (step === 5) void workers[0]?.terminate()
      },
    })
    expect(sizes).toEqual([2, 2, 1, 1, 1])
    expect(distance(together.state, alone.state)).toBeLessThan(1e-5)
  })

  it('is the end where it was the last', async () => {
    const ranks = inlineRanks(1)
    await expect(trained({ ...given, ranks, onNews: (step) => step === 10 && ranks.lose('rank-0') })).rejects.toThrow(
      'no rank is left to train on; the last one lost was rank-0: the test took it away',
    )
  })
})

describe('a rank that joins', () => {
  it('takes part from the next round on', async () => {
    const given = { network: 'cnn', settings: adamw, newsEvery: 5 } as const
    const alone = await trained(given)
    const ranks = inlineRanks(1)
    const together = await trained({ ...given, ranks, onNews: (step) => step === 5 && ranks.add('late') })
    expect(distance(together.state, alone.state)).toBeLessThan(1e-5)
    const weights = ranks.log.flatMap(({ message }) => (message.kind === 'round' ? [message.steps[0]?.weight] : []))
    expect(weights.slice(0, 2)).toEqual([1, 1])
    expect(weights.slice(-4)).toEqual([0.5, 0.5, 0.5, 0.5])
  })
})

describe('a model that cannot be trained', () => {
  it('is the fault of no rank', async () => {
    const ranks = inlineRanks(2)
    const settings = { ...adamw, loss: { kind: 'mse' } }
    await expect(trained({ network: 'mlp', settings, ranks })).rejects.toThrow()
  })
})
