import { describe, expect, it } from 'vitest'
import { node, type NodeOptions } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'
import { draws } from './draws.js'

type Attributes = NonNullable<NodeOptions['attributes']>

const seeds = (count: number) => Array.from({ length: count }, (_, index) => index + 1)
const double = (tensor: Tensor): Tensor => ({ ...tensor, dtype: 'float64', data: Float64Array.from(tensor.data as Float32Array) })
const positive = (dims: number[], seed: number): Tensor => ({
  ...noise(dims, seed),
  data: (noise(dims, seed).data as Float32Array).map((value) => 1 + 0.5 * value),
})
const epsilons = (seed: number): Attributes => (seed % 2 === 0 ? {} : { epsilon: { float: 0.01 } })

function imageDims(seed: number): number[] {
  const { int } = draws(seed)
  const rank = int(1, 3)
  return [int(2, 3), int(1, 4), ...Array.from({ length: rank }, () => (rank === 1 ? int(6, 9) : int(2, 4)))]
}

describe('BatchNormalization', () => {
  const inputs = ['x', 'scale', 'bias', 'mean', 'variance']
  const feedsOf = (x: number[], seed: number) => {
    const channels = [x[1] as number]
    const feeds = {
      x: noise(x, seed),
      scale: positive(channels, seed + 1),
      bias: noise(channels, seed + 2),
      mean: noise(channels, seed + 3),
      variance: positive(channels, seed + 4),
    }
    return Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, double(tensor)]))
  }
  const wanted = inputs.slice(0, 3)

  it.each(seeds(20))('for inference, configuration %i', async (seed) => {
    const dims = seed % 5 === 0 ? [3, 4] : imageDims(seed)
    await checkGradients({ nodes: [node('BatchNormalization', inputs, ['y'], { attributes: epsilons(seed) })], feeds: feedsOf(dims, seed), wanted })
  })

  it.each(seeds(20))('in training mode, configuration %i', async (seed) => {
    const dims = seed % 5 === 0 ? [4, 3] : imageDims(seed)
    const attributes = { training_mode: 1, ...epsilons(seed) }
    const outputs = ['y', 'mean_out', 'variance_out']
    await checkGradients({ nodes: [node('BatchNormalization', inputs, outputs, { attributes })], feeds: feedsOf(dims, seed), wanted, outputs: ['y'] })
  })

  it('refuses to train its statistics', async () => {
    const feeds = feedsOf([2, 3, 4], 1)
    await expect(checkGradients({ nodes: [node('BatchNormalization', inputs, ['y'])], feeds })).rejects.toThrow('its statistics would be trained')
  })
})

describe('LayerNormalization', () => {
  const cases = seeds(24).map((seed) => ({ seed, statistics: seed % 3 === 0, outputs: seed % 6 === 0 ? ['y', 'mean', 'inverse'] : ['y'] }))
  it.each(cases)('configuration %j', async ({ seed, statistics, outputs }) => {
    const { int, chance } = draws(seed)
    const dims = Array.from({ length: int(1, 4) }, () => int(2, 4))
    const axis = int(0, dims.length - 1)
    const attributes: Attributes = { ...(axis === dims.length - 1 && chance() ? {} : { axis: chance() ? axis : axis - dims.length }), ...epsilons(seed) }
    const biased = chance()
    const feeds = { x: noise(dims, seed), scale: noise(dims.slice(axis), seed + 1), ...(biased ? { bias: noise(dims.slice(axis), seed + 2) } : {}) }
    const nodes = [node('LayerNormalization', Object.keys(feeds), statistics ? ['y', 'mean', 'inverse'] : ['y'], { attributes })]
    await checkGradients({ nodes, feeds, outputs, step: 3e-3, tolerance: 5e-3 })
  })
})

describe('InstanceNormalization', () => {
  it.each(seeds(20))('configuration %i', async (seed) => {
    const dims = imageDims(seed)
    const channels = [dims[1] as number]
    const feeds = { x: noise(dims, seed), scale: noise(channels, seed + 1), bias: noise(channels, seed + 2) }
    await checkGradients({
      nodes: [node('InstanceNormalization', Object.keys(feeds), ['y'], { attributes: epsilons(seed) })],
      feeds,
      step: 3e-3,
      tolerance: 5e-3,
    })
  })
})

describe('GroupNormalization', () => {
  it.each(seeds(20))('configuration %i', async (seed) => {
    const { int } = draws(seed)
    const groups = int(1, 3)
    const dims = [int(1, 3), groups * int(1, 3), ...Array.from({ length: int(1, 3) }, () => int(3, 5))]
    const channels = [dims[1] as number]
    const feeds = { x: noise(dims, seed), scale: noise(channels, seed + 1), bias: noise(channels, seed + 2) }
    const attributes = { num_groups: groups, ...epsilons(seed) }
    await checkGradients({ nodes: [node('GroupNormalization', Object.keys(feeds), ['y'], { attributes })], feeds, step: 3e-3, tolerance: 5e-3 })
  })
})
