// Every operator here is linear: differences with a long step are exact but for rounding.
import { describe, it } from 'vitest'
import { node, tensorProto, type NodeOptions } from '#flyweight/onnx/builder.js'
import type { TensorProto } from '#flyweight/onnx/proto.js'
import { elementCount } from '#flyweight/tensor/tensor.js'
import { checkGradients } from '../gradient-check.js'
import { draws } from './draws.js'
import { broadcastable, seeds, someDims, uniform, type Draws } from './inputs.js'

interface Case {
  dims: number[]
  /** The second input, a list of numbers. */
  list?: number[]
  attributes?: NonNullable<NodeOptions['attributes']>
}

const shuffled = ({ int }: Draws, rank: number): number[] => {
  const left = Array.from({ length: rank }, (_, axis) => axis)
  return Array.from({ length: rank }, () => left.splice(int(0, left.length - 1), 1)[0] as number)
}

const configurations: Record<string, (draw: Draws) => Case> = {
  Expand: (draw) => {
    const list = someDims(draw)
    const dims = broadcastable(draw, list)
    // A size of 1 in the list keeps that of the input.
    return { dims, list: list.map((size, axis) => (dims[axis - list.length + dims.length] === size && draw.chance() ? 1 : size)) }
  },
  Flatten: (draw) => {
    const dims = someDims(draw, { least: 1 })
    return { dims, attributes: draw.chance() ? {} : { axis: draw.int(-dims.length, dims.length) } }
  },
  Identity: (draw) => ({ dims: someDims(draw) }),
  Reshape: (draw) => {
    const dims = someDims(draw, { least: 1 })
    return { dims, list: draw.pick([[-1], [1, -1, 1], [elementCount(dims)], [0, -1]]) }
  },
  Squeeze: (draw) => {
    const dims = [...someDims(draw), 1, ...someDims(draw, { most: 2 }), 1]
    return draw.chance() ? { dims } : { dims, list: draw.pick([[-1], [dims.length - 1]]) }
  },
  Tile: (draw) => {
    const dims = someDims(draw)
    return { dims, list: dims.map(() => draw.int(1, 3)) }
  },
  Transpose: (draw) => {
    const dims = someDims(draw)
    return { dims, attributes: draw.chance() ? {} : { perm: shuffled(draw, dims.length) } }
  },
  Unsqueeze: (draw) => ({ dims: someDims(draw), list: draw.pick([[0], [-1], [0, -1], [0, 1]]) }),
}

describe.each(Object.keys(configurations))('%s', (opType) => {
  it.each(seeds)('configuration %i', async (seed) => {
    const { dims, list, attributes = {} } = (configurations[opType] as (draw: Draws) => Case)(draws(seed))
    const constants: TensorProto[] = list === undefined ? [] : [tensorProto('list', 'int64', [list.length], list)]
    const inputs = list === undefined ? ['x'] : ['x', 'list']
    await checkGradients({ nodes: [node(opType, inputs, ['y'], { attributes })], constants, feeds: { x: uniform(dims, seed) }, step: 0.5, tolerance: 1e-12 })
  })
})
