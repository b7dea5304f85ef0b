// Gradients that are handed over in buckets, while the backward pass goes on: the same as in one piece.
import { describe, expect, it } from 'vitest'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openReplica } from '#flyweight/train/parallel/replica.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { initialState } from '#flyweight/train/step-engine.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { carriedBy } from '#flyweight/train/step.js'
import { trainingForm } from '#flyweight/train/training-form.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { inlineRanks } from './inline-ranks.js'
import { trained } from './trained.js'

const networks = {
  mlp: { model: buildNetwork({ kind: 'mlp', hidden: [8, 5] }, { input: { name: 'x', dims: [6] }, output: { name: 'scores', classes: 3 } }, 1), x: [6, 6] },
  cnn: {
    model: buildNetwork({ kind: 'cnn', channels: [4, 6], hidden: [5] }, { input: { name: 'x', dims: [2, 8, 8] }, output: { name: 'scores', classes: 3 } }, 1),
    x: [6, 2, 8, 8],
  },
  transformer: {
    model: buildNetwork(
      { kind: 'transformer', width: 8, depth: 2, heads: 2, expansion: 2, patch: 4 },
      { input: { name: 'x', dims: [1, 8, 8] }, output: { name: 'scores', classes: 3 } },
      1,
    ),
    x: [6, 1, 8, 8],
  },
}

async function gradients(network: keyof typeof networks, buckets: number): Promise<{ flat: number[]; statistics: number[]; loss: number; order: string[] }> {
  const { model, x } = networks[network]
  const settings = completeSettings({ parallel: { buckets } })
  const step = { settings, prediction: 'scores', labelled: true }
  const rows: Record<string, Tensor> = {
    x: noise(x, 3),
    labels: { dtype: 'int64', dims: [6], data: BigInt64Array.from([0n, 1n, 2n, 2n, 1n, 0n]) },
  }
  const form = await trainingForm(model, { batch: rows })
  const state = initialState(
    form,
    carriedBy({ ...stepOptions(step), form }).map((one) => ({ ...one, before: '', after: '' })),
  )
  const replica = openReplica({ model: encodeModel(model), step, threads: 1 })
  const found: number[][] = []
  const order: string[] = []
  try {
    const { loss, statistics } = await replica.gradients(state, { rows, weight: 0.5 }, (bucket, vector) => {
      found[bucket] = [...vector]
      order.push(`bucket ${bucket}`)
      setImmediate(() => order.push('others have a turn'))
    })
    // Buckets are runs of the parameters, the last ones first.
    return { flat: found.toReversed().flat(), statistics: [...(statistics ?? [])], loss, order }
  } finally {
    await replica.release()
  }
}

describe('gradients in buckets', () => {
  it.each(['mlp', 'cnn', 'transformer'] as const)('of a %s are those in one piece', async (network) => {
    const whole = await gradients(network, 1)
    for (const buckets of [2, 3, 64]) {
      const cut = await gradients(network, buckets)
      expect(cut.loss).toBeCloseTo(whole.loss, 6)
      expect(cut.flat).toHaveLength(whole.flat.length)
      for (const [at, value] of whole.flat.entries()) expect(cut.flat[at]).toBeCloseTo(value, 5)
      for (const [at, value] of whole.statistics.entries()) expect(cut.statistics[at]).toBeCloseTo(value, 5)
    }
  })

  it('leave before those of earlier layers are computed', async () => {
    const { order } = await gradients('mlp', 3)
    expect(order.slice(0, 4)).toEqual(['bucket 0', 'others have a turn', 'bucket 1', 'others have a turn'])
  })

  it.each([{}, { shardOptimizer: true }])('train as one vector does: %j', async (more) => {
    const given = { network: 'mlp', steps: 6 } as const
    const run = async (buckets: number) =>
      (await trained({ ...given, settings: { clipNorm: 0.1, parallel: { buckets, ...more } }, ranks: inlineRanks(2) })).state.vectors[
        'parameters'
      ] as Float32Array
    const [whole, cut] = [await run(1), await run(3)]
    for (const [at, value] of whole.entries()) expect(cut[at]).toBeCloseTo(value, 5)
  })
})
