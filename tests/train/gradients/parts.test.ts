// Every operator here is linear: differences with a long step are exact but for rounding.
import { describe, expect, it } from 'vitest'
import { node, tensorProto } from '#flyweight/onnx/builder.js'
import { elementCount } from '#flyweight/tensor/tensor.js'
import { checkGradients, type GradientCase } from '../gradient-check.js'
import { gradientsOf } from '../gradients-of.js'
import { draws } from './draws.js'
import { seeds, someDims, uniform, type Draws } from './inputs.js'

const check = async (of: GradientCase) => checkGradients({ ...of, step: 0.5, tolerance: 1e-12 })
const ints = (name: string, values: readonly (number | bigint)[]) => tensorProto(name, 'int64', [values.length], BigInt64Array.from(values, BigInt))
const someAxis = ({ int, chance }: Draws, rank: number): number => int(0, rank - 1) - (chance() ? rank : 0)

describe('Concat', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = someDims(draw, { least: 1 })
    const axis = someAxis(draw, dims.length)
    const names = ['a', 'b', 'c'].slice(0, draw.int(1, 3))
    const sized = names.map((_, index) => dims.with(axis, draw.int(index === 0 ? 1 : 0, 3)))
    const feeds = Object.fromEntries(names.map((name, index) => [name, uniform(sized[index] as number[], seed + 30 * index)]))
    // One tensor twice: its gradients are added.
    const inputs = draw.chance() ? [...names, 'a'] : names
    const wanted = names.filter((name) => elementCount(feeds[name]?.dims ?? []) > 0)
    await check({ nodes: [node('Concat', inputs, ['y'], { attributes: { axis } })], feeds, wanted: draw.chance() ? wanted : ['a'] })
  })
})

describe('Split', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const rank = draw.int(1, 4)
    const axis = someAxis(draw, rank)
    const sizes = Array.from({ length: draw.int(1, 4) }, () => draw.int(1, 3))
    const total = sizes.reduce((sum, size) => sum + size, 0)
    const dims = Array.from({ length: rank }, () => draw.int(1, 3)).with(axis, total)
    const outputs = sizes.map((_, index) => `y${index}`)
    const used = outputs.filter((_, index) => index === 0 || draw.chance())
    // Rounded up, equal sizes may leave nothing for the last part, which the runtime refuses.
    const even = Math.ceil(total / outputs.length) * (outputs.length - 1) < total && draw.chance()
    const split = even
      ? node('Split', ['x'], outputs, { attributes: { axis, num_outputs: outputs.length } })
      : node('Split', ['x', 'sizes'], outputs, { attributes: { axis } })
    await check({ nodes: [split], feeds: { x: uniform(dims, seed) }, constants: [ints('sizes', sizes)], outputs: used })
  })
})

describe('Slice', () => {
  const SOME = [0, 1, 2, 3, 5, -1, -2, -4, -9, 9]
  const LIMIT = 2n ** 63n - 1n

  it.each([...seeds, ...seeds.map((seed) => seed + 20)])('configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = Array.from({ length: draw.int(1, 4) }, () => draw.int(1, 6))
    const named = dims.map((_, axis) => axis).filter(() => draw.chance())
    const all = draw.chance()
    const axes = all ? dims.map((_, axis) => axis) : draw.chance() ? named : named.toReversed()
    const steps = axes.map(() => draw.pick([1, 1, 2, 3, -1, -1, -2, -3, 7]))
    const starts = steps.map((step) => (draw.chance() ? draw.pick(SOME) : step < 0 ? LIMIT : 0))
    const ends = steps.map((step) => (draw.chance() ? draw.pick(SOME) : step < 0 ? -LIMIT : LIMIT))
    const inputs = all && draw.chance() ? ['x', 'starts', 'ends', '', 'steps'] : ['x', 'starts', 'ends', 'axes', 'steps']
    const written = axes.map((axis) => (draw.chance() ? axis : axis - dims.length))
    const constants = [ints('starts', starts), ints('ends', ends), ints('axes', written), ints('steps', steps)]
    await check({ nodes: [node('Slice', inputs, ['y'])], feeds: { x: uniform(dims, seed) }, constants })
  })

  it('of one element by a step far beyond the end', async () => {
    const constants = [ints('s', [1]), ints('e', [LIMIT]), ints('a', [0]), ints('far', [2 ** 40])]
    await check({ nodes: [node('Slice', ['x', 's', 'e', 'a', 'far'], ['y'])], feeds: { x: uniform([5, 2], 1) }, constants })
  })

  it('without axes and steps', async () => {
    await check({ nodes: [node('Slice', ['x', 's', 'e'], ['y'])], feeds: { x: uniform([3, 4, 2], 1) }, constants: [ints('s', [1, -3]), ints('e', [3, -1])] })
  })

  it('refuses computed starts', async () => {
    const feeds = { x: uniform([3], 1), s: { dtype: 'int64' as const, dims: [1], data: BigInt64Array.of(1n) } }
    await expect(gradientsOf([node('Slice', ['x', 's', 'e'], ['y'])], feeds, [ints('e', [3])])).rejects.toThrow(
      'Slice "y" cannot be trained through: its starts are computed, expected constant ones',
    )
  })
})

describe('Pad', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = Array.from({ length: draw.int(1, 4) }, () => draw.int(2, 4))
    const some = dims.map((_, axis) => axis).filter((axis) => axis === 0 || draw.chance())
    const listed = draw.chance()
    const axes = listed ? some : dims.map((_, axis) => axis)
    const negative = draw.chance()
    const pads = [...axes, ...axes].map((_, index) => draw.int(negative && index % 2 === 0 ? -1 : 0, 2))
    const inputs = ['x', 'pads', draw.chance() ? 'value' : '', ...(listed ? ['axes'] : [])]
    const valueDims = draw.chance() ? [] : [1]
    const constants = [
      ints('pads', pads),
      ints(
        'axes',
        axes.map((axis) => (draw.chance() ? axis : axis - dims.length)),
      ),
    ]
    const feeds = { x: uniform(dims, seed), ...(inputs.includes('value') ? { value: uniform(valueDims, seed + 1) } : {}) }
    await check({ nodes: [node('Pad', inputs, ['y'], { attributes: draw.chance() ? {} : { mode: 'constant' } })], feeds, constants })
  })

  it.each(['reflect', 'edge', 'wrap'])('refuses mode %s', async (mode) => {
    const nodes = [node('Pad', ['x', 'pads'], ['y'], { name: 'border', attributes: { mode } })]
    await expect(gradientsOf(nodes, { x: uniform([4], 1) }, [ints('pads', [1, 1])])).rejects.toThrow(
      `Pad "border" cannot be trained through: its mode is "${mode}", expected "constant"`,
    )
  })
})
