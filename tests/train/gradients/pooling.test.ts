import { describe, it } from 'vitest'
import { node, type NodeOptions } from '#flyweight/onnx/builder.js'
import { noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'
import { draws } from './draws.js'
import { distinct, float32 } from './inputs.js'

type Attributes = NonNullable<NodeOptions['attributes']>

const seeds = (count: number, from = 0) => Array.from({ length: count }, (_, index) => from + index + 1)
/** Averages are linear: differences with a long step are exact but for rounding. */
const exact = { step: 0.5, tolerance: 2e-5 }

/** No two elements so near that a difference exchanges which is larger. */
const separate = (dims: number[], seed: number) => float32(distinct(draws(seed), dims))

/** Random windows over `rank` axes, each with at least one element of the input. */
function pool(seed: number, rank: number): { x: number[]; attributes: Attributes } {
  const { int, pick, chance } = draws(seed)
  const padding = pick(['none', 'pads', 'automatic'])
  const dilated = padding !== 'automatic' && chance()
  const axes = Array.from({ length: rank }, () => {
    const [k, d] = [int(1, 4), dilated ? int(1, 2) : 1]
    // The runtime refuses automatic padding where it would be negative, as it is with gaps between windows.
    const s = int(1, padding === 'automatic' ? Math.min(3, k) : 3)
    const [begin, end] = padding === 'pads' ? [int(0, k - 1), int(0, k - 1)] : [0, 0]
    return { k, s, d, begin, end, size: (k - 1) * d + 1 + int(0, 5) }
  })
  // Rounding up, the runtime drops a window that would begin in the end's padding, but its shape inference does not.
  const drops = axes.some(({ k, s, d, begin, end, size }) => Math.ceil((size + begin + end - (k - 1) * d - 1) / s) * s >= size + begin)
  return {
    x: [int(1, 2), int(1, 3), ...axes.map(({ size }) => size)],
    attributes: {
      kernel_shape: axes.map(({ k }) => k),
      strides: axes.map(({ s }) => s),
      ceil_mode: drops ? 0 : int(0, 1),
      ...(dilated ? { dilations: axes.map(({ d }) => d) } : {}),
      ...(padding === 'pads' ? { pads: [...axes.map(({ begin }) => begin), ...axes.map(({ end }) => end)] } : {}),
      ...(padding === 'automatic' ? { auto_pad: pick(['SAME_UPPER', 'SAME_LOWER', 'VALID']) } : {}),
    },
  }
}

describe('MaxPool', () => {
  const check = async (seed: number, rank: number, outputs = 1) => {
    const { x, attributes } = pool(seed, rank)
    const storage = outputs === 2 ? { storage_order: seed % 2 } : {}
    const nodes = [node('MaxPool', ['x'], ['y', 'indices'].slice(0, outputs), { attributes: { ...attributes, ...storage } })]
    await checkGradients({ nodes, feeds: { x: separate(x, seed) }, outputs: ['y'] })
  }
  it.each(seeds(24))('over two axes, configuration %i', async (seed) => check(seed, 2))
  it.each(seeds(8, 100))('over one axis, configuration %i', async (seed) => check(seed, 1))
  it.each(seeds(4, 200))('over three axes, configuration %i', async (seed) => check(seed, 3))
  it.each(seeds(8, 300))('whose indices are known, configuration %i', async (seed) => check(seed, 2, 2))
})

describe.each([0, 1])('AveragePool with count_include_pad %i', (count_include_pad) => {
  const check = async (seed: number, rank: number) => {
    const { x, attributes } = pool(seed, rank)
    await checkGradients({
      nodes: [node('AveragePool', ['x'], ['y'], { attributes: { ...attributes, count_include_pad } })],
      feeds: { x: noise(x, seed) },
      ...exact,
    })
  }
  it.each(seeds(24))('over two axes, configuration %i', async (seed) => check(seed, 2))
  it.each(seeds(8, 100))('over one axis, configuration %i', async (seed) => check(seed, 1))
  it.each(seeds(4, 200))('over three axes, configuration %i', async (seed) => check(seed, 3))
})

it.each([
  [2, 3, 4, 6],
  [1, 2, 9],
  [1, 2, 4, 2, 6],
])('pools of windows side by side, of %j', async (...x) => {
  const kernel = x.slice(2).map((size) => (size % 3 === 0 ? 3 : 2))
  const attributes = { kernel_shape: kernel, strides: kernel }
  await checkGradients({ nodes: [node('MaxPool', ['x'], ['y'], { attributes })], feeds: { x: separate(x, 1) } })
  await checkGradients({ nodes: [node('AveragePool', ['x'], ['y'], { attributes })], feeds: { x: noise(x, 1) }, ...exact })
})

describe.each(['GlobalAveragePool', 'GlobalMaxPool'])('%s', (opType) => {
  it.each(seeds(20))('configuration %i', async (seed) => {
    const { int } = draws(seed)
    const x = [int(1, 3), int(1, 3), ...Array.from({ length: int(1, 3) }, () => int(1, 4))]
    await checkGradients({ nodes: [node(opType, ['x'], ['y'])], feeds: { x: separate(x, seed) } })
  })
})
