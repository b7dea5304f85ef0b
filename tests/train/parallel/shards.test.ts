// Ranks that share the optimizer's state, against ranks of which each has all of it.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shardsOf } from '#flyweight/train/parallel/shards.js'
import { threadRanks } from '#flyweight/train/parallel/thread-ranks.js'
import { inlineRanks, type InlineRanks } from './inline-ranks.js'
import { distance, trained, type TrainedBy } from './trained.js'

const momentum = { optimizer: { kind: 'sgd', momentum: 0.9 }, learningRate: 0.1 }
const adamw = { optimizer: { kind: 'adamw' }, learningRate: 0.01 }
const parallel = { shardOptimizer: true }

/** Elements of the vectors that a rank got and sent as state, by name. */
function lengths({ log }: InlineRanks, rank: string): Record<string, Set<number>> {
  const found: Record<string, Set<number>> = {}
  for (const { link, message } of log) {
    if (link !== rank || !('state' in message)) continue
    for (const [name, { length }] of Object.entries(message.state?.vectors ?? {})) (found[name] ??= new Set()).add(length)
  }
  return found
}

describe('shards', () => {
  it('follow each other, cover everything, and differ by one element at most', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 40 }), (count, ranks) => {
        const shards = shardsOf(count, ranks)
        let end = 0
        for (const shard of shards) {
          expect(shard.offset).toBe(end)
          end += shard.count
        }
        expect(end).toBe(count)
        expect(shards).toHaveLength(Math.min(count, ranks))
        const sizes = shards.map((shard) => shard.count)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
      }),
      { seed: 5 },
    )
  })
})

describe('ranks with a shard of the optimizer each', () => {
  const cases: (TrainedBy & { count: number })[] = [
    { network: 'mlp', settings: { ...adamw, clipNorm: 0.05, average: 0.9 }, count: 3 },
    { network: 'cnn', settings: { ...momentum, parts: 2, freeze: ['w'] }, count: 2 },
    { network: 'normalized', settings: { optimizer: { kind: 'adam', weightDecay: 0.1 }, learningRate: 0.01 }, count: 4 },
    { network: 'mlp', settings: { optimizer: { kind: 'sgd' }, learningRate: 0.1 }, count: 3 },
    { network: 'mlp', settings: { ...adamw, average: 0.9, precision: { kind: 'mixed', lossScale: { initial: 2 ** 24, growthSteps: 3 } } }, count: 2 },
  ]
  it.each(cases)('make of $network what ranks with all of it make: $settings', async ({ count, ...given }) => {
    const whole = await trained({ ...given, newsEvery: 7, ranks: inlineRanks(count) })
    const sharded = await trained({ ...given, settings: { ...given.settings, parallel }, newsEvery: 7, ranks: inlineRanks(count) })
    expect(Object.keys(sharded.state.vectors).sort()).toEqual(Object.keys(whole.state.vectors).sort())
    expect(distance(sharded.state, whole.state)).toBeLessThan(1e-6)
    expect(sharded.state.step).toBe(20)
  })

  it('never have more of its state than that', async () => {
    const ranks = inlineRanks(3)
    const { state } = await trained({ network: 'mlp', settings: { ...adamw, average: 0.9, parallel }, ranks, newsEvery: 5 })
    const count = state.vectors['parameters']?.length as number
    const sizes = shardsOf(count, 3).map((shard) => shard.count)
    for (const [index, size] of sizes.entries()) {
      const own = lengths(ranks, `rank-${index}`)
      expect([own['moment1'], own['moment2'], own['average']]).toEqual([new Set([size]), new Set([size]), new Set([size])])
      expect(own['parameters']).toEqual(new Set([count]))
    }
    const slices = ranks.log.flatMap(({ message }) => (message.kind === 'slice' ? [message.vector.length] : []))
    expect(slices).toHaveLength(60)
    expect(new Set(slices)).toEqual(new Set(sizes))
    const rounds = ranks.log.flatMap(({ message }) => (message.kind === 'round' ? [message] : []))
    expect(rounds.slice(3).every((round) => round.state === undefined)).toBe(true)
  })

  it('hand shards out anew when one is lost, and when one joins', async () => {
    const given = { network: 'cnn', settings: { ...adamw, average: 0.9 }, newsEvery: 4 } as const
    const alone = await trained(given)
    const ranks = inlineRanks(3)
    let slices = 0
    ranks.onMessage = (link, { kind }) => {
      // Between its update and the others': in the second round.
      if (link === 'rank-1' && kind === 'slice' && ++slices === 6) ranks.lose('rank-1')
    }
    const settings = { ...given.settings, parallel }
    const { state } = await trained({ ...given, settings, ranks, onNews: (step) => step === 8 && ranks.add('late') })
    expect(distance(state, alone.state)).toBeLessThan(1e-5)
    const rounds = ranks.log.flatMap(({ link, message }) => (message.kind === 'round' ? [{ link, ...message }] : []))
    const told = rounds.map(({ link, round, from, state: sent }) => `${link}: ${round} from ${from} with ${Object.keys(sent?.vectors ?? {}).length}`)
    expect(told.slice(0, 10)).toEqual([
      ...['rank-0: 1 from undefined with 4', 'rank-1: 1 from undefined with 4', 'rank-2: 1 from undefined with 4'],
      ...['rank-0: 2 from 1 with 0', 'rank-1: 2 from 1 with 0', 'rank-2: 2 from 1 with 0'],
      ...['rank-0: 3 from 1 with 3', 'rank-2: 3 from 1 with 3'],
      ...['rank-0: 4 from 3 with 0', 'rank-2: 4 from 3 with 0'],
    ])
    expect(told.slice(10)).toEqual([
      ...['rank-0: 5 from 4 with 3', 'rank-2: 5 from 4 with 3', 'late: 5 from undefined with 4'],
      ...['rank-0: 6 from 5 with 0', 'rank-2: 6 from 5 with 0', 'late: 6 from 5 with 0'],
    ])
  })

  it('make the same bits when they go on from a checkpoint, and in threads', async () => {
    const given = { network: 'mlp', settings: { ...adamw, parallel }, newsEvery: 10 } as const
    const whole = await trained({ ...given, ranks: inlineRanks(2) })
    const half = await trained({ ...given, steps: 10, ranks: inlineRanks(2) })
    expect((await trained({ ...given, resume: half.state, ranks: threadRanks(2) })).state).toEqual(whole.state)
  })
})
