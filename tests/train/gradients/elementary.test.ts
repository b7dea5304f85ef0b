import { describe, expect, it } from 'vitest'
import { node, tensorProto } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { checkGradients } from '../gradient-check.js'
import { gradientsOf } from '../gradients-of.js'
import { draws } from './draws.js'
import { awayFrom, broadcastable, float32, seeds, someDims, uniform } from './inputs.js'

const smooth = (dims: number[], seed: number) => uniform(dims, seed)
const positive = (dims: number[], seed: number) => uniform(dims, seed, [0.3, 3])
const nonzero = (dims: number[], seed: number) => awayFrom([0], dims, seed, [-2, 2], 0.3)

describe.each([
  ['Abs', nonzero],
  ['Cos', smooth],
  ['Exp', smooth],
  ['Log', positive],
  ['Neg', smooth],
  ['Reciprocal', nonzero],
  ['Sin', smooth],
  ['Sqrt', positive],
] as const)('%s', (opType, values) => {
  it.each(seeds)('configuration %i', async (seed) => {
    await checkGradients({ nodes: [node(opType, ['x'], ['y'])], feeds: { x: values(someDims(draws(seed)), seed) } })
  })
})

describe('Erf', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const x = float32(uniform(someDims(draws(seed)), seed))
    await checkGradients({ nodes: [node('Erf', ['x'], ['y'])], feeds: { x }, tolerance: 5e-4 })
  })
})

describe('Abs', () => {
  it('has gradient zero at its kink', async () => {
    const x: Tensor = { dtype: 'float32', dims: [3], data: Float32Array.of(-1, 0, 1) }
    expect(await gradientsOf([node('Abs', ['x'], ['y'])], { x })).toEqual({ x: [-1, 0, 1] })
  })
})

describe('Pow', () => {
  it.each(seeds)('of two variables, broadcast, configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = someDims(draw)
    const [a, b] = draw.chance() ? [dims, broadcastable(draw, dims)] : [broadcastable(draw, dims), dims]
    await checkGradients({ nodes: [node('Pow', ['x', 'p'], ['y'])], feeds: { x: positive(a, seed), p: uniform(b, seed + 50) } })
  })

  it.each(seeds)('to whole powers of negative numbers, configuration %i', async (seed) => {
    const draw = draws(seed + 100)
    const power = draw.pick([-1, 0, 1, 2, 3, 4])
    const dtype = draw.pick(['float64', 'int64', 'int32'] as const)
    const constants = [tensorProto('p', dtype, draw.chance() ? [] : [1], [power])]
    await checkGradients({ nodes: [node('Pow', ['x', 'p'], ['y'])], constants, feeds: { x: nonzero(someDims(draw), seed) } })
  })

  it('has finite gradients at zero wherever there are', async () => {
    const x: Tensor = { dtype: 'float64', dims: [4], data: Float64Array.of(0, 0, 0, 0) }
    const p: Tensor = { dtype: 'float64', dims: [4], data: Float64Array.of(0, 1, 2, 3) }
    const nodes = [node('Pow', ['x', 'p'], ['y'])]
    expect(await gradientsOf(nodes, { x, p })).toEqual({ x: [0, 1, 0, 0], p: [0, 0, 0, 0] })
    for (const power of [0, 1, 2]) {
      const constants = [tensorProto('p', 'float64', [], [power])]
      const gradient = power === 1 ? 1 : 0
      expect(await gradientsOf(nodes, { x }, constants)).toEqual({ x: Array(4).fill(gradient) })
    }
  })
})
