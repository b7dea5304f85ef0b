// Ranks that take steps alone, against the same arithmetic in plain loops over trainings of one process.
import { describe, expect, it } from 'vitest'
import { openLoopEngine } from '#flyweight/train/loop-engine.js'
import { threadRanks } from '#flyweight/train/parallel/thread-ranks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import type { Batch, StepEngine, TrainState } from '#flyweight/train/step-engine.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { trainingForm } from '#flyweight/train/training-form.js'
import { inlineRanks } from './inline-ranks.js'
import { distance, networks, trained, type TrainedBy } from './trained.js'

const momentum = { optimizer: { kind: 'sgd', momentum: 0.9 }, learningRate: 0.1 }
const adamw = { optimizer: { kind: 'adamw' }, learningRate: 0.01 }

/** By hand: each rank is an engine of one process, and the states are averaged between runs. */
async function byHand({ network, settings: given }: TrainedBy, shares: readonly number[]): Promise<StepEngine> {
  const settings = completeSettings({ batchSize: 8, ...given })
  const { syncEvery, outer } = settings.parallel
  const { autocast, ...making } = stepOptions({ settings, prediction: 'scores', labelled: true })
  const casting = autocast === undefined ? undefined : { level: autocast, emulated: true }
  const engines: StepEngine[] = []
  for (const rows of shares) {
    const batch = shareOf(exampleOf(network), 0, rows)
    const form = await trainingForm(networks[network](), { batch, freeze: settings.freeze })
    engines.push(await openLoopEngine({ ...making, autocast: casting, form, batch }, { threads: 1 }))
  }
  const total = shares.reduce((sum, rows) => sum + rows, 0)
  const [first] = engines as [StepEngine]
  const count = first.state.find(({ name }) => name === 'parameters')?.count
  return {
    state: outer === undefined ? first.state : [...first.state, { name: 'outer_momentum', count, initial: 0 }],
    async advance(from, batches, rates) {
      let [state, at] = [from, 0]
      const losses = new Float32Array(batches.length)
      while (at < batches.length) {
        const steps = Math.min(batches.length - at, syncEvery - (state.step % syncEvery))
        const ends: TrainState[] = []
        let row = 0
        for (const [index, engine] of engines.entries()) {
          const rows = shares[index] as number
          const own = batches.slice(at, at + steps).map((batch) => shareOf(batch, row, rows))
          const end = await engine.advance(state, own, rates.slice(at, at + steps))
          ends.push(end.state)
          for (const [step, loss] of end.losses.entries()) losses[at + step]! += (loss * rows) / total
          row += rows
        }
        const vectors = Object.fromEntries(
          Object.keys((ends[0] as TrainState).vectors).map((name) => [
            name,
            (ends[0] as TrainState).vectors[name]!.map((_, element) =>
              ends.reduce((sum, end, index) => sum + ((shares[index] as number) / total) * end.vectors[name]![element]!, 0),
            ),
          ]),
        )
        if (outer !== undefined) {
          // As PyTorch's SGD has it: buffer = μ·buffer + g; p −= lr·(g + μ·buffer).
          const [start, mean] = [state.vectors['parameters']!, vectors['parameters']!]
          const gradient = start.map((value, element) => value - mean[element]!)
          const buffer = state.vectors['outer_momentum']!.map((value, element) => outer.momentum * value + gradient[element]!)
          vectors['parameters'] = start.map((value, element) => value - outer.learningRate * (gradient[element]! + outer.momentum * buffer[element]!))
          vectors['outer_momentum'] = buffer
        }
        state = { step: state.step + steps, vectors }
        at += steps
      }
      return { state, losses }
    },
    release: async () => void (await Promise.all(engines.map((engine) => engine.release()))),
  }
}

function exampleOf(network: TrainedBy['network']): Batch {
  const dims = network === 'mlp' ? [8, 6] : [8, 2, 5, 5]
  const data = new Float32Array(dims.reduce((product, dim) => product * dim, 1))
  return { x: { dtype: 'float32', dims, data }, labels: { dtype: 'int64', dims: [8], data: new BigInt64Array(8) } }
}

function shareOf(batch: Batch, first: number, rows: number): Batch {
  return Object.fromEntries(
    Object.entries(batch).map(([name, { dtype, dims, data }]) => {
      const size = data.length / (dims[0] as number)
      return [name, { dtype, dims: [rows, ...dims.slice(1)], data: (data as Float32Array).slice(first * size, (first + rows) * size) }]
    }),
  )
}

describe('ranks that take steps alone', () => {
  const cases: (TrainedBy & { shares: number[] })[] = [
    { network: 'mlp', settings: { ...momentum, parallel: { syncEvery: 4 } }, shares: [4, 4] },
    { network: 'mlp', settings: { ...adamw, clipNorm: 0.05, average: 0.9, parallel: { syncEvery: 3 } }, shares: [3, 3, 2] },
    { network: 'normalized', settings: { ...adamw, parallel: { syncEvery: 5 } }, shares: [4, 4] },
    { network: 'cnn', settings: { ...adamw, parallel: { syncEvery: 5, outer: {} } }, shares: [3, 3, 2] },
    { network: 'mlp', settings: { ...momentum, parallel: { syncEvery: 6, outer: { learningRate: 1.2, momentum: 0.5 } } }, newsEvery: 8, shares: [4, 4] },
    { network: 'mlp', settings: { ...adamw, precision: { kind: 'mixed' }, parallel: { syncEvery: 4 } }, shares: [4, 4] },
  ]
  it.each(cases)('make of $network the mean of what each makes of its rows: $settings', async ({ shares, ...given }) => {
    const expected = await trained({ ...given, openEngine: () => byHand(given, shares) })
    const ranks = inlineRanks(shares.length)
    const { state, losses } = await trained({ ...given, ranks })
    expect(distance(state, expected.state)).toBeLessThan(1e-5)
    expect(Object.keys(state.vectors).sort()).toEqual(Object.keys(expected.state.vectors).sort())
    for (const [step, loss] of expected.losses.entries()) expect(losses[step]).toBeCloseTo(loss, 5)
    // It is not what comes out where gradients are added up.
    const { parallel: _, ...settings } = given.settings
    expect(distance(state, (await trained({ ...given, settings })).state, ['parameters'])).toBeGreaterThan(1e-4)
  })

  it('may compute their rows in equal parts', async () => {
    const given = { network: 'cnn', settings: { ...momentum, parallel: { syncEvery: 5 } } } as const
    const inParts = { ...given, settings: { ...given.settings, parts: 2 } }
    const [whole, divided] = [await trained({ ...given, ranks: inlineRanks(2) }), await trained({ ...inParts, ranks: inlineRanks(2) })]
    expect(distance(divided.state, whole.state)).toBeLessThan(1e-5)
    await expect(trained({ ...inParts, ranks: inlineRanks(3) })).rejects.toThrow('/parts: got 2, expected a divisor of the 3 rows')
  })

  it('add up gradients where they are never alone', async () => {
    const given = { network: 'mlp', settings: adamw } as const
    const states = [
      await trained({ ...given, ranks: inlineRanks(2) }),
      await trained({ ...given, settings: { ...adamw, parallel: { syncEvery: 1 } }, ranks: inlineRanks(2) }),
    ]
    expect(states[1]).toEqual(states[0])
  })

  it('make the same bits with an outer optimizer that takes all of the movement', async () => {
    const of = async (parallel: object) => (await trained({ network: 'cnn', settings: { ...adamw, parallel }, ranks: inlineRanks(3) })).state
    const [plain, followed] = [await of({ syncEvery: 4 }), await of({ syncEvery: 4, outer: { learningRate: 1, momentum: 0 } })]
    const { outer_momentum: kept, ...vectors } = followed.vectors
    expect(vectors).toEqual(plain.vectors)
    expect(kept?.some((value) => value !== 0)).toBe(true)
  })

  it('make the same bits when they go on from a checkpoint, and in threads', async () => {
    const given = { network: 'mlp', settings: { ...adamw, average: 0.9, parallel: { syncEvery: 4, outer: {} } }, newsEvery: 10 } as const
    const whole = await trained({ ...given, ranks: inlineRanks(3) })
    const half = await trained({ ...given, steps: 10, ranks: inlineRanks(3) })
    expect(half.state.step).toBe(10)
    expect((await trained({ ...given, resume: half.state, ranks: threadRanks(3) })).state).toEqual(whole.state)
  })

  it.each([
    [20, 60, [20, 20, 20]],
    [40, 45, [40, 5, 15]],
    [20, 25, [20, 5, 15, 10, 10]],
    [7, 60, [28, 28, 4]],
    [6, 20, [20, 20, 20]],
  ])('meet every %d steps and at news every %d', async (syncEvery, newsEvery, lengths) => {
    const ranks = inlineRanks(2)
    await trained({ network: 'mlp', settings: { ...momentum, parallel: { syncEvery } }, ranks, steps: 60, newsEvery })
    const own = ranks.log.filter(({ link }) => link === 'rank-0').map(({ message }) => message)
    expect(own.flatMap((message) => (message.kind === 'round' ? [message.steps.length] : []))).toEqual(lengths)
    const starts = lengths.map((_, run) => lengths.slice(0, run).reduce((sum, length) => sum + length, 0))
    const met = own.flatMap((message) => (message.kind === 'bucket' && message.bucket === 0 ? [(starts[message.round - 1] as number) + message.step + 1] : []))
    const steps = Array.from({ length: 60 }, (_, at) => at + 1)
    expect(met).toEqual(steps.filter((step) => step % syncEvery === 0 || step % newsEvery === 0 || step === 60))
  })

  it('have their round begun again where one is lost', async () => {
    const given = { network: 'cnn', settings: { ...adamw, parallel: { syncEvery: 4, outer: {} } }, newsEvery: 10 } as const
    const ranks = inlineRanks(3)
    let sums = 0
    ranks.onMessage = (link, { kind }) => {
      // After their first meeting in the second round.
      if (link === 'rank-0' && kind === 'reduced' && ++sums === 8) ranks.lose('rank-0')
    }
    const { state } = await trained({ ...given, ranks })
    const begun = ranks.log.flatMap(({ link, message }) => (message.kind === 'round' ? [`${link}: ${message.round} from ${message.from}`] : []))
    expect(begun.slice(3)).toEqual(['rank-0: 2 from 1', 'rank-1: 2 from 1', 'rank-2: 2 from 1', 'rank-1: 3 from 1', 'rank-2: 3 from 1'])
    const before = await trained({ ...given, steps: 10, ranks: inlineRanks(3) })
    expect(state).toEqual((await trained({ ...given, resume: before.state, ranks: inlineRanks(2) })).state)
  })
})
