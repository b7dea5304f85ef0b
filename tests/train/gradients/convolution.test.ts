// Conv and ConvTranspose are linear in every input, so that differences with a long step are exact but for rounding.
import { describe, it } from 'vitest'
import { node, type NodeOptions } from '#flyweight/onnx/builder.js'
import { noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'
import { draws } from './draws.js'

type Attributes = NonNullable<NodeOptions['attributes']>

interface Case {
  x: number[]
  w: number[]
  bias: boolean
  attributes: Attributes
}

const exact = { step: 0.5, tolerance: 2e-5 }

/** Random sizes, groups, strides, dilations and pads over `rank` spatial axes, such that at least one window fits. */
function convolution(seed: number, { rank, automatic }: { rank: number; automatic: boolean }): Case {
  const { int, pick, chance } = draws(seed)
  const group = pick([1, 1, 2, 3])
  const [perGroupIn, perGroupOut] = [pick([1, 1, 2, 3]), pick([1, 2])]
  const axes = Array.from({ length: rank }, () => {
    const [k, s, d] = [int(1, 4), int(1, 3), int(1, 2)]
    const reach = (k - 1) * d + 1
    return { k, s, d, begin: int(0, reach), end: int(0, reach), size: reach + int(0, 5) }
  })
  const strides = axes.map(({ s }) => s)
  const dilations = automatic ? axes.map(() => 1) : axes.map(({ d }) => d)
  const pads = [...axes.map(({ begin }) => begin), ...axes.map(({ end }) => end)]
  const placing: Attributes = automatic ? { auto_pad: pick(['SAME_UPPER', 'SAME_LOWER', 'VALID']) } : chance() ? { pads } : {}
  return {
    x: [int(1, 3), group * perGroupIn, ...axes.map(({ size }) => size)],
    w: [group * perGroupOut, perGroupIn, ...axes.map(({ k }) => k)],
    bias: chance(),
    attributes: { group, strides, dilations, ...placing },
  }
}

function transposed(seed: number, { rank, automatic }: { rank: number; automatic: boolean }): Case {
  const { int, pick, chance } = draws(seed)
  const group = pick([1, 1, 2, 3])
  const [perGroupIn, perGroupOut] = [pick([1, 2]), pick([1, 1, 2, 3])]
  const axes = Array.from({ length: rank }, () => {
    const [k, s, d, size] = [int(1, 4), int(1, 3), int(1, 2), int(2, 4)]
    const full = (size - 1) * s + (k - 1) * d + 1
    const begin = int(0, Math.min(2, Math.floor((full - 1) / 2)))
    return { k, s, d, size, begin, end: int(0, Math.min(2, full - 1 - begin)), extra: int(0, s - 1) }
  })
  const strides = axes.map(({ s }) => s)
  const pads = [...axes.map(({ begin }) => begin), ...axes.map(({ end }) => end)]
  const placing: Attributes = automatic
    ? { auto_pad: pick(['SAME_UPPER', 'SAME_LOWER', 'VALID']) }
    : chance()
      ? { pads, output_padding: axes.map(({ extra }) => extra) }
      : {}
  return {
    x: [int(1, 3), group * perGroupIn, ...axes.map(({ size }) => size)],
    w: [group * perGroupIn, perGroupOut, ...axes.map(({ k }) => k)],
    bias: chance(),
    attributes: { group, strides, dilations: axes.map(({ d }) => d), ...placing },
  }
}

async function check(opType: string, { x, w, bias, attributes }: Case): Promise<void> {
  const channels = opType === 'Conv' ? (w[0] as number) : (w[1] as number) * (attributes.group as number)
  const feeds = { x: noise(x, 1), w: noise(w, 2), ...(bias ? { b: noise([channels], 3) } : {}) }
  await checkGradients({ nodes: [node(opType, Object.keys(feeds), ['y'], { attributes })], feeds, ...exact })
}

const seeds = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

describe.each([
  ['Conv', convolution],
  ['ConvTranspose', transposed],
] as const)('%s', (opType, make) => {
  it.each(seeds(24))('over two axes, configuration %i', async (seed) => check(opType, make(seed, { rank: 2, automatic: false })))
  it.each(seeds(8))('over one axis, configuration %i', async (seed) => check(opType, make(seed + 100, { rank: 1, automatic: false })))
  it.each(seeds(4))('over three axes, configuration %i', async (seed) => check(opType, make(seed + 200, { rank: 3, automatic: false })))
  it.each(seeds(10))('with automatic padding, configuration %i', async (seed) => check(opType, make(seed + 300, { rank: 2, automatic: true })))
})

describe('Conv of stride 1 over many windows', () => {
  it.each(seeds(20))('configuration %i', async (seed) => {
    const { x, attributes, ...rest } = convolution(seed + 400, { rank: 1 + (seed % 2), automatic: seed % 4 === 0 })
    const { strides: _, ...others } = attributes
    await check('Conv', { ...rest, x: [128, ...x.slice(1)], attributes: others })
  })
})

/** The weights' gradient has other forms for wide groups, and for kernels of many places. */
describe.each<[string, Omit<Case, 'bias'>]>([
  ['many channels', { x: [2, 17, 6, 5], w: [3, 17, 3, 2], attributes: { group: 1, pads: [1, 0, 1, 1] } }],
  ['many channels and few windows', { x: [1, 34, 4, 4], w: [40, 17, 3, 2], attributes: { group: 2, pads: [1, 0, 1, 1] } }],
  ['many channels and gaps', { x: [2, 34, 9, 8], w: [4, 17, 3, 3], attributes: { group: 2, strides: [2, 3], pads: [1, 1, 0, 1] } }],
  ['one channel in a group', { x: [2, 5, 6, 6], w: [10, 1, 3, 3], attributes: { group: 5, pads: [1, 1, 1, 1], dilations: [1, 2] } }],
  ['a large kernel', { x: [2, 2, 14, 15], w: [2, 1, 11, 12], attributes: { group: 2, pads: [2, 1, 0, 3] } }],
  ['patches side by side', { x: [2, 4, 6, 6], w: [6, 2, 3, 2], attributes: { group: 2, strides: [3, 2] } }],
  ['kernels of one element', { x: [3, 4, 5, 5], w: [6, 4, 1, 1], attributes: { group: 1 } }],
  ['more padding than the kernel reaches', { x: [1, 2, 3, 3], w: [2, 2, 2, 2], attributes: { group: 1, pads: [3, 0, 0, 2] } }],
])('Conv with %s', (_, of) => {
  it('has exact gradients', async () => check('Conv', { ...of, bias: true }))
})

describe.each<[string, Attributes]>([
  ['a given shape', { strides: [2, 3], output_shape: [6, 8] }],
  ['a given shape and output padding', { strides: [2, 3], output_padding: [1, 1], output_shape: [7, 8] }],
  ['a given shape, the odd padding at the beginning', { strides: [2, 3], auto_pad: 'SAME_LOWER', output_shape: [6, 8] }],
  ['a given shape, the odd padding at the end', { strides: [2, 3], auto_pad: 'SAME_UPPER', output_shape: [6, 8] }],
])('ConvTranspose with %s', (_, attributes) => {
  it('has exact gradients', async () => check('ConvTranspose', { x: [1, 2, 3, 3], w: [2, 2, 3, 3], attributes: { group: 1, ...attributes }, bias: true }))
})
