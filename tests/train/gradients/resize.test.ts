// Resize is linear: differences with a long step are exact but for rounding.
import { describe, expect, it } from 'vitest'
import { node, tensorProto, type NodeOptions } from '#flyweight/onnx/builder.js'
import { noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'
import { draws } from './draws.js'

type Attributes = NonNullable<NodeOptions['attributes']>

interface Case {
  x: number[]
  scales?: number[]
  sizes?: number[]
  attributes: Attributes
}

const exact = { step: 0.5, tolerance: 2e-5 }
const seeds = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

async function check({ x, scales, sizes, attributes }: Case): Promise<void> {
  const constants = [
    ...(scales ? [tensorProto('scales', 'float32', [scales.length], scales)] : []),
    ...(sizes ? [tensorProto('sizes', 'int64', [sizes.length], sizes)] : []),
  ]
  const inputs = ['x', '', scales ? 'scales' : '', ...(sizes ? ['sizes'] : [])]
  await checkGradients({ nodes: [node('Resize', inputs, ['y'], { attributes })], feeds: { x: noise(x, 1) }, constants, ...exact })
}

describe('Resize', () => {
  it.each(seeds(20))('repeating elements, configuration %i', async (seed) => {
    const { int, pick } = draws(seed)
    const x = [int(1, 2), int(1, 3), ...Array.from({ length: int(1, 3) }, () => int(1, 4))]
    const scales = x.map((_, axis) => (axis < 2 ? 1 : int(1, 4)))
    const rounding = pick([{}, { nearest_mode: 'floor', coordinate_transformation_mode: 'asymmetric' }, { nearest_mode: 'round_prefer_ceil' }])
    await check({
      x,
      attributes: { mode: 'nearest', ...rounding },
      ...(seed % 2 === 0 ? { scales } : { sizes: x.map((size, axis) => size * (scales[axis] as number)) }),
    })
  })

  const coordinates = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric']
  const roundings = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil']
  const cases = [...coordinates, 'half_pixel_symmetric'].flatMap((coordinate_transformation_mode) => {
    const nearest = coordinates.includes(coordinate_transformation_mode) ? roundings.map((nearest_mode) => ({ mode: 'nearest', nearest_mode })) : []
    return [...nearest, { mode: 'linear' }].flatMap((mode) => [1, 2].map((variant) => ({ coordinate_transformation_mode, ...mode, variant })))
  })
  it.each(cases.map((one, index) => ({ ...one, seed: index + 1 })))('%j', async ({ seed, variant, ...attributes }) => {
    const { int } = draws(seed)
    const x = [int(1, 2), int(1, 2), int(2, 5), int(2, 5)]
    const [tall, wide] = [int(1, 9), int(1, 9)]
    if (variant === 1) return check({ x, sizes: [...x.slice(0, 2), tall, wide], attributes })
    return check({ x, scales: [1, 1, 0.5 + tall / 4, 0.5 + wide / 4], attributes })
  })

  it('symmetric, where a size is rounded down', async () => {
    await check({ x: [1, 1, 5, 3], scales: [1, 1, 1.5, 2.5], attributes: { mode: 'linear', coordinate_transformation_mode: 'half_pixel_symmetric' } })
  })

  it('of named axes', async () => {
    await check({ x: [1, 2, 3, 4], scales: [2, 1.5], attributes: { mode: 'linear', axes: [2, -1] } })
    await check({ x: [1, 2, 3, 4], sizes: [7, 5], attributes: { mode: 'linear', axes: [2, 3] } })
  })

  it.each<[string, Attributes]>([
    ['its mode is "cubic"', { mode: 'cubic' }],
    ['whose roundings only the runtime knows', { mode: 'nearest', coordinate_transformation_mode: 'half_pixel_symmetric' }],
    ['it is antialiased', { mode: 'linear', antialias: 1 }],
    ['its keep_aspect_ratio_policy is "not_larger"', { mode: 'linear', keep_aspect_ratio_policy: 'not_larger', axes: [2, 3] }],
  ])('refuses: %s', async (message, attributes) => {
    await expect(check({ x: [1, 1, 4, 4], sizes: 'axes' in attributes ? [3, 3] : [1, 1, 3, 3], attributes })).rejects.toThrow(message)
  })
})
