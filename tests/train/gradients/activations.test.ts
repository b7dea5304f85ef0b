// The runtime has single-precision kernels alone for most activations.
import { describe, expect, it } from 'vitest'
import { node, tensorProto, type NodeOptions } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { checkGradients } from '../gradient-check.js'
import { gradientsOf } from '../gradients-of.js'
import { draws } from './draws.js'
import { awayFrom, broadcastable, float32, seeds, someDims, uniform, type Draws } from './inputs.js'

type Attributes = NonNullable<NodeOptions['attributes']>
const tolerance = 5e-4

interface Activation {
  opType: string
  /** Random attributes, and the kinks that they make. */
  configure?: (draw: Draws) => { attributes?: Attributes; kinks?: number[] }
}

const alpha = ({ int }: Draws, low: number, high: number): { float: number } => ({ float: int(low, high) / 10 })
const someAlpha = (draw: Draws, low: number, high: number) => ({
  attributes: draw.chance() ? { alpha: alpha(draw, low, high) } : {},
  kinks: [0],
})

const activations: Activation[] = [
  { opType: 'Relu', configure: () => ({ kinks: [0] }) },
  { opType: 'LeakyRelu', configure: (draw) => someAlpha(draw, -5, 5) },
  { opType: 'Elu', configure: (draw) => someAlpha(draw, 2, 20) },
  {
    opType: 'HardSigmoid',
    configure: (draw) => {
      if (draw.chance()) return { kinks: [-2.5, 2.5] }
      const [slope, offset] = [alpha(draw, 3, 9), alpha(draw, 1, 9)]
      return { attributes: { alpha: slope, beta: offset }, kinks: [-offset.float / slope.float, (1 - offset.float) / slope.float] }
    },
  },
  { opType: 'HardSwish', configure: () => ({ kinks: [-3, 3] }) },
  { opType: 'Softplus' },
  { opType: 'Gelu', configure: ({ pick }) => ({ attributes: pick([{}, { approximate: 'none' }, { approximate: 'tanh' }]) }) },
]

describe.each(activations)('$opType', ({ opType, configure }) => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const { attributes = {}, kinks = [] } = configure?.(draw) ?? {}
    const x = float32(awayFrom(kinks, someDims(draw), seed, [-4, 4]))
    await checkGradients({ nodes: [node(opType, ['x'], ['y'], { attributes })], feeds: { x }, tolerance })
  })
})

describe.each(['Sigmoid', 'Tanh'])('%s', (opType) => {
  it.each(seeds)('configuration %i', async (seed) => {
    await checkGradients({ nodes: [node(opType, ['x'], ['y'])], feeds: { x: uniform(someDims(draws(seed)), seed, [-4, 4]) } })
  })
})

describe('PRelu', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = someDims(draw)
    const slopeDims = draw.chance() && dims.length > 1 ? [dims[1] as number, ...dims.slice(2).map(() => 1)] : broadcastable(draw, dims)
    const feeds = { x: float32(awayFrom([0], dims, seed)), slope: float32(uniform(slopeDims, seed + 50)) }
    await checkGradients({ nodes: [node('PRelu', ['x', 'slope'], ['y'])], feeds, tolerance })
  })
})

describe('Clip', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const [low, high] = [-draw.int(0, 10) / 10, draw.int(1, 10) / 10]
    const inputs = draw.pick([['x'], ['x', 'low'], ['x', '', 'high'], ['x', 'low', 'high']])
    const x = awayFrom([low, high], someDims(draw), seed)
    const limits = Object.entries({ low, high }).filter(([name]) => inputs.includes(name))
    const nodes = [node('Clip', inputs, ['y'])]
    if (draw.chance()) {
      const constants = limits.map(([name, value]) => tensorProto(name, 'float64', [], [value]))
      await checkGradients({ nodes, feeds: { x }, constants })
    } else {
      const learned = limits.map(([name, value]): [string, Tensor] => [name, { dtype: 'float64', dims: [], data: Float64Array.of(value) }])
      await checkGradients({ nodes, feeds: { x, ...Object.fromEntries(learned) } })
    }
  })
})

describe('Gelu', () => {
  it('by tanh has the slope of its formula to single precision', async () => {
    const points = [-3.5, -1.25, -0.5, 0, 0.75, 2, 4]
    const value = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
    const nodes = [node('Gelu', ['x'], ['y'], { attributes: { approximate: 'tanh' } })]
    const { x } = await gradientsOf(nodes, { x: { dtype: 'float32', dims: [points.length], data: Float32Array.from(points) } })
    for (const [index, point] of points.entries()) expect(x?.[index]).toBeCloseTo((value(point + 1e-5) - value(point - 1e-5)) / 2e-5, 5)
  })
})

describe('kinks', () => {
  const at = (...values: number[]): Tensor => ({ dtype: 'float32', dims: [values.length], data: Float32Array.from(values) })

  it('of Relu and Clip have gradient zero', async () => {
    expect(await gradientsOf([node('Relu', ['x'], ['y'])], { x: at(-1, 0, 1) })).toEqual({ x: [0, 0, 1] })
    const limits = [tensorProto('low', 'float32', [], [0]), tensorProto('high', 'float32', [], [6])]
    expect(await gradientsOf([node('Clip', ['x', 'low', 'high'], ['y'])], { x: at(-1, 0, 1, 6, 7) }, limits)).toEqual({ x: [0, 0, 1, 0, 0] })
  })

  it('of HardSwish and HardSigmoid are flat as what is beyond them', async () => {
    expect(await gradientsOf([node('HardSwish', ['x'], ['y'])], { x: at(-4, -3, 3, 4) })).toEqual({ x: [0, 0, 1, 1] })
    expect(await gradientsOf([node('HardSigmoid', ['x'], ['y'])], { x: at(-3, -2.5, 2.5, 3) })).toEqual({ x: [0, 0, 0, 0] })
  })
})

describe('large inputs', () => {
  it.each(['Sigmoid', 'Tanh', 'Softplus', 'Gelu', 'Elu'])('leave the gradient of %s finite', async (opType) => {
    const x: Tensor = { dtype: 'float32', dims: [4], data: Float32Array.of(-1e4, -100, 100, 1e4) }
    const { x: gradient } = await gradientsOf([node(opType, ['x'], ['y'])], { x })
    const top = opType === 'Sigmoid' || opType === 'Tanh' ? 0 : 1
    expect(gradient?.map((value) => Math.round(value * 1e6) / 1e6 + 0)).toEqual([0, 0, top, top])
  })
})
