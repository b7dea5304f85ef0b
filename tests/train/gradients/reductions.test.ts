import { describe, expect, it } from 'vitest'
import { node, tensorProto } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { checkGradients } from '../gradient-check.js'
import { gradientsOf } from '../gradients-of.js'
import { draws } from './draws.js'
import { awayFrom, distinct, someDims, uniform, type Draws } from './inputs.js'

const smooth = (_: Draws, dims: number[], seed: number) => uniform(dims, seed)
const nonzero = (_: Draws, dims: number[], seed: number) => awayFrom([0], dims, seed, [-2, 2], 0.3)
const apart = (draw: Draws, dims: number[]) => distinct(draw, dims)

/** Every way to name the axes and to say what naming none means, over shapes and axes by seed. */
const reductions = [undefined, 0, 1].flatMap((keepdims) =>
  [undefined, 0, 1].flatMap((noop) => (['some', 'empty', 'absent'] as const).map((named) => ({ keepdims, noop, named }))),
)

/** Some axes, in any order and counted from either end. */
function someAxes({ chance }: Draws, rank: number): number[] {
  const named = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis === 0 || chance())
  return (chance() ? named : named.toReversed()).map((axis) => (chance() ? axis : axis - rank))
}

describe.each([
  ['ReduceSum', smooth],
  ['ReduceMean', smooth],
  ['ReduceMax', apart],
  ['ReduceMin', apart],
  ['ReduceL1', nonzero],
  ['ReduceL2', nonzero],
  ['ReduceLogSumExp', smooth],
  ['ReduceSumSquare', smooth],
] as const)('%s', (opType, values) => {
  it.each(reductions.map((one, index) => ({ ...one, seed: index + 1 })))('of %j', async ({ keepdims, noop, named, seed }) => {
    const draw = draws(seed)
    const dims = someDims(draw, { least: named === 'some' ? 1 : 0 })
    const axes = named === 'some' ? someAxes(draw, dims.length) : []
    const attributes = { ...(keepdims === undefined ? {} : { keepdims }), ...(noop === undefined ? {} : { noop_with_empty_axes: noop }) }
    await checkGradients({
      nodes: [node(opType, named === 'absent' ? ['x'] : ['x', 'axes'], ['y'], { attributes })],
      constants: [tensorProto('axes', 'int64', [axes.length], axes)],
      feeds: { x: values(draw, dims, seed) },
    })
  })

  it('refuses axes that are computed', async () => {
    const feeds = { x: uniform([2, 2], 1), k: { dtype: 'int64' as const, dims: [1], data: BigInt64Array.of(1n) } }
    await expect(gradientsOf([node(opType, ['x', 'k'], ['y'], { name: 'totals', attributes: { keepdims: 0 } })], feeds)).rejects.toThrow(
      `${opType} "totals" cannot be trained through: its axes are computed, expected constant ones`,
    )
  })
})

describe('points without a gradient', () => {
  const x = (...values: number[]): Tensor => ({ dtype: 'float32', dims: [1, values.length], data: Float32Array.from(values) })
  const constants = [tensorProto('axes', 'int64', [1], [1])]

  it('equal extremes share it', async () => {
    expect(await gradientsOf([node('ReduceMax', ['x', 'axes'], ['y'])], { x: x(1, 3, 3, 2) }, constants)).toEqual({ x: [0, 0.5, 0.5, 0] })
    expect(await gradientsOf([node('ReduceMin', ['x', 'axes'], ['y'])], { x: x(3, 1, 3, 1) }, constants)).toEqual({ x: [0, 0.5, 0, 0.5] })
  })

  it('the norm of zero has gradient zero', async () => {
    expect(await gradientsOf([node('ReduceL2', ['x', 'axes'], ['y'])], { x: x(0, 0) }, constants)).toEqual({ x: [0, 0] })
    expect(await gradientsOf([node('ReduceL1', ['x', 'axes'], ['y'])], { x: x(0, -2) }, constants)).toEqual({ x: [0, -1] })
  })

  it('large scores leave it finite', async () => {
    expect(await gradientsOf([node('ReduceLogSumExp', ['x', 'axes'], ['y'])], { x: x(1e4, -1e4) }, constants)).toEqual({ x: [1, 0] })
  })
})
