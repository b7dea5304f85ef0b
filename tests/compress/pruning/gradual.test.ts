// Pruning in steps: shares by the published schedule, each step trained on, and the last step's share at the end.
import { describe, expect, it } from 'vitest'
import type { Model, PassContext, Tuner, TuningRequest } from '#flyweight/compress/passes/pass.js'
import { pruneWeights } from '#flyweight/compress/passes/prune-weights.js'
import { gradualShare } from '#flyweight/compress/pruning/gradual.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import { node, tensorProto, tensorValues } from '#flyweight/onnx/builder.js'
import { network, noiseSamples, weights } from '../compressing.js'

const COUNT = 64

function product(): Model {
  return network([8], ['n', 8], [node('MatMul', ['x', 'w'], ['y'], { name: 'product' })], [weights('w', [8, 8])])
}

function values({ graph }: Model): Float32Array<ArrayBuffer> {
  return tensorValues(graph.initializer[0]!).data as Float32Array<ArrayBuffer>
}

const zerosIn = (model: Model) => values(model).filter((value) => value === 0).length

async function pruned(parameters: Record<string, unknown>, tune?: Tuner) {
  const source = product()
  const context: PassContext = {
    loadOriginal: () => Promise.resolve(source),
    device: 'cpu',
    samples: noiseSamples([8]),
    maxBatch: 8,
    threads: 1,
    workDir: '',
    ...(tune === undefined ? {} : { tune }),
  }
  const step = parseRecipe([{ pass: 'prune-weights', schedule: 'gradual', minWeights: 0, ...parameters }]).recipe![0]!
  return { source, ...(await pruneWeights.run(source, step, context)) }
}

/** A trainer that doubles every weight, so that what it did can be told. */
function doubling(seen: TuningRequest[], after = 0.5): Tuner {
  return (request) => {
    seen.push(request)
    const { model } = request
    const initializer = [
      tensorProto(
        'w',
        'float32',
        [8, 8],
        values(model).map((value) => 2 * value),
      ),
    ]
    return Promise.resolve({ model: { ...model, graph: { ...model.graph, initializer } }, rows: 9, heldOut: { before: 1, after } })
  }
}

describe('gradualShare', () => {
  it('is the cubic of Zhu and Gupta: most early, all at the end', () => {
    // s·(1 − (1 − t/T)³) for s = 0.8, T = 4, worked out by hand: 0.8·37/64, 0.8·56/64, 0.8·63/64, 0.8.
    expect([1, 2, 3, 4].map((step) => gradualShare(0.8, step, 4))).toEqual([0.4625, 0.7, 0.7875, 0.8].map((share) => expect.closeTo(share, 12)))
  })
})

describe('prune-weights(schedule=gradual)', () => {
  it('trains after each step, with zeros and the original told', async () => {
    const seen: TuningRequest[] = []
    const { model, source, decisions, summary } = await pruned({ ratio: 0.75, steps: 3, epochs: 2, learningRate: 0.1, seed: 5 }, doubling(seen))
    expect(seen.map(({ model: before }) => zerosIn(before))).toEqual([1, 2, 3].map((step) => Math.round(COUNT * 0.75 * (1 - (1 - step / 3) ** 3))))
    for (const request of seen) {
      expect(request).toMatchObject({ epochs: 2, learningRate: 0.1, seed: 5 })
      expect([...request.sparse]).toEqual(['w'])
      expect(values(request.teacher)).toEqual(values(source))
    }
    // Doubled three times, and what is left is the largest quarter.
    const least = [...values(source)].map(Math.abs).toSorted((a, b) => b - a)[COUNT / 4 - 1]!
    expect(values(model)).toEqual(values(source).map((value) => (Math.abs(value) >= least ? 8 * value : 0)))
    expect(decisions).toEqual([expect.objectContaining({ node: 'product', action: 'done', reason: expect.stringContaining('75.0 %') })])
    expect(summary).toContain('3 steps, each trained on 9 samples')
  })

  it('leaves what training makes no better as it was pruned', async () => {
    const { model, source } = await pruned({ ratio: 0.5, steps: 2 }, doubling([], 2))
    expect(zerosIn(model)).toBe(COUNT / 2)
    expect(values(model).every((value, index) => value === 0 || value === values(source)[index])).toBe(true)
  })

  it('freezes what the recipe excludes', async () => {
    const seen: TuningRequest[] = []
    await pruned({ steps: 1, exclude: ['product'] }, doubling(seen))
    expect(seen[0]!.frozen.has('w')).toBe(true)
    expect(zerosIn(seen[0]!.model)).toBe(0)
  })

  it('needs somebody who trains, and no pattern', async () => {
    await expect(pruned({})).rejects.toMatchObject({ code: 'invalid_recipe', errors: [{ pointer: '/recipe/schedule' }] })
    await expect(pruned({ pattern: '2:4' }, doubling([]))).rejects.toMatchObject({ code: 'invalid_recipe', errors: [{ pointer: '/recipe/schedule' }] })
  })
})
