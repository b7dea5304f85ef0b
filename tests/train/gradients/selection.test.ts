import { describe, expect, it } from 'vitest'
import { node } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { checkGradients } from '../gradient-check.js'
import { gradientsOf } from '../gradients-of.js'
import { draws } from './draws.js'
import { broadcastable, distinct, seeds, someDims, uniform } from './inputs.js'

describe.each(['Min', 'Max'])('%s', (opType) => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = someDims(draw)
    const names = ['a', 'b', 'c', 'd'].slice(0, draw.int(1, 4))
    // Numbers of different inputs are apart too.
    const inputs = names.map((name, index): [string, Tensor] => [
      name,
      distinct(draw, index === 0 ? dims : broadcastable(draw, dims), { gap: 0.4, offset: 0.1 * index }),
    ])
    await checkGradients({ nodes: [node(opType, names, ['y'])], feeds: Object.fromEntries(inputs) })
  })

  it('gives the gradient to the first of equal inputs', async () => {
    const ones: Tensor = { dtype: 'float32', dims: [2], data: Float32Array.of(1, 1) }
    expect(await gradientsOf([node(opType, ['a', 'b', 'c'], ['y'])], { a: ones, b: ones, c: ones })).toEqual({ a: [1, 1], b: [0, 0], c: [0, 0] })
  })
})

describe('Where', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = someDims(draw)
    const shapes = [dims, broadcastable(draw, dims), broadcastable(draw, dims)]
    const [a, b, c] = (draw.chance() ? shapes : shapes.toReversed()) as [number[], number[], number[]]
    const condition: Tensor = { dtype: 'bool', dims: c, data: Uint8Array.from(uniform(c, seed + 1).data as Float64Array, (value) => Number(value > 0)) }
    await checkGradients({ nodes: [node('Where', ['c', 'a', 'b'], ['y'])], feeds: { c: condition, a: uniform(a, seed), b: uniform(b, seed + 50) } })
  })

  it('keeps what is not a number out of the gradient of the other input', async () => {
    const condition: Tensor = { dtype: 'bool', dims: [2], data: Uint8Array.of(1, 0) }
    const a: Tensor = { dtype: 'float32', dims: [2], data: Float32Array.of(4, 0) }
    // √0 has an infinite slope, but is not taken.
    expect(await gradientsOf([node('Where', ['c', 'a', 'a'], ['y'])], { c: condition, a })).toEqual({ a: [1, 1] })
  })
})
