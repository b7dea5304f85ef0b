// Lookups are linear in the data: differences with a long step are exact but for rounding.
import { describe, expect, it } from 'vitest'
import { node, tensorProto } from '#flyweight/onnx/builder.js'
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'
import { checkGradients, type GradientCase } from '../gradient-check.js'
import { gradientsOf } from '../gradients-of.js'
import { draws } from './draws.js'
import { seeds, someDims, uniform, type Draws } from './inputs.js'

const check = async (of: GradientCase) => checkGradients({ ...of, step: 0.5, tolerance: 1e-12 })

/** Indices along an axis of `size`, from either end, few enough values that some come twice. */
function indicesOf({ int }: Draws, dims: readonly number[], size: number): number[] {
  return Array.from({ length: elementCount(dims) }, () => int(-size, size - 1))
}

describe.each(['Gather', 'GatherElements'])('%s', (opType) => {
  it.each([...seeds, ...seeds.map((seed) => seed + 20)])('configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = someDims(draw, { least: 1 })
    const axis = draw.int(0, dims.length - 1)
    // As large as the data along other axes, or smaller.
    const dimsI = opType === 'Gather' ? someDims(draw, { most: 3 }) : dims.map((size, other) => (other === axis ? draw.int(1, 5) : draw.int(1, size)))
    const values = indicesOf(draw, dimsI, dims[axis] as number)
    const attributes = axis === 0 && draw.chance() ? {} : { axis: draw.chance() ? axis : axis - dims.length }
    const wide = draw.chance()
    const data = wide ? BigInt64Array.from(values, BigInt) : Int32Array.from(values)
    const indices: Tensor = { dtype: wide ? 'int64' : 'int32', dims: dimsI, data }
    const nodes = [node(opType, ['x', 'i'], ['y'], { attributes })]
    const feeds = { x: uniform(dims, seed) }
    if (draw.chance()) await check({ nodes, feeds: { ...feeds, i: indices } })
    else await check({ nodes, feeds, constants: [tensorProto('i', wide ? 'int64' : 'int32', dimsI, data)] })
  })
})

describe('a row that is taken several times', () => {
  it('gets the sum, over many rows too', async () => {
    const count = 20_000
    const rows = Array.from({ length: count }, (_, index) => (index * 7919) % 3)
    const indices: Tensor = { dtype: 'int64', dims: [count], data: BigInt64Array.from(rows, BigInt) }
    const { x } = await gradientsOf([node('Gather', ['x', 'i'], ['y'])], { x: { dtype: 'float32', dims: [4, 2], data: new Float32Array(8) }, i: indices })
    const times = [0, 1, 2, 3].map((row) => rows.filter((one) => one === row).length)
    expect(x).toEqual(times.flatMap((sum) => [sum, sum]))
  })
})
