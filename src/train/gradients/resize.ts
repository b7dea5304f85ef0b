// Gradient of Resize: along each axis it is a product with a matrix of interpolation weights, and its gradient one with
// the matrix transposed. Axes whose elements are repeated need only a sum.
import { intAttribute, intsAttribute, stringAttribute } from '../../onnx/attributes.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { emitConstant } from './constants.js'
import { interpolationTaps, isRepetition, type Tap } from './interpolation.js'

export const resize: Gradient = (context) => {
  const { node, emit, dims, upstream } = context
  const [from, to] = [dims(node.input[0] as string), dims(node.output[0] as string)]
  const scales = scalesOf(context, from, to)
  const mode = stringAttribute(node, 'mode', 'nearest')
  if (mode !== 'nearest' && mode !== 'linear') return context.refuse(`its mode is "${mode}", expected "nearest" or "linear"`)
  if (intAttribute(node, 'antialias', 0) === 1) return context.refuse('it is antialiased')
  const coordinates = stringAttribute(node, 'coordinate_transformation_mode', 'half_pixel')
  if (coordinates.startsWith('tf_')) return context.refuse(`its coordinate_transformation_mode is "${coordinates}"`)
  if (coordinates === 'half_pixel_symmetric' && mode === 'nearest')
    return context.refuse('its coordinate_transformation_mode is "half_pixel_symmetric" and its mode "nearest", whose roundings only the runtime knows')
  const rounding = stringAttribute(node, 'nearest_mode', 'round_prefer_floor')
  const taps = from.map((length, axis) => {
    const sizes = { from: length, to: to[axis] as number, scale: scales[axis] as number }
    return sizes.from === sizes.to && sizes.scale === 1 ? undefined : interpolationTaps(sizes, { coordinates, mode, rounding })
  })
  const repeated = taps.map((axisTaps, axis) => axisTaps !== undefined && isRepetition(axisTaps, from[axis] as number))
  let gradient = upstream[0] as string
  const shape = [...to]
  if (repeated.includes(true)) {
    const split = from.flatMap((length, axis) => (repeated[axis] ? [length, (to[axis] as number) / length] : [to[axis] as number]))
    const places = from.flatMap((_, axis) => (repeated[axis] ? [axis + 1 + repeated.slice(0, axis).filter(Boolean).length] : []))
    gradient = emit.op('ReduceSum', [emit.op('Reshape', [gradient, emit.ints(split)]), emit.ints(places)], { attributes: { keepdims: 0 } })
    for (const axis of shape.keys()) if (repeated[axis]) shape[axis] = from[axis] as number
  }
  for (const [axis, axisTaps] of taps.entries()) {
    if (axisTaps === undefined || repeated[axis]) continue
    gradient = emitTransposed(context, gradient, { shape, axis, taps: axisTaps, length: from[axis] as number })
    shape[axis] = from[axis] as number
  }
  return [gradient]
}

/** The product of the transposed matrix of weights with one axis of a tensor of `shape`. */
function emitTransposed(
  context: GradientContext,
  tensor: string,
  options: { shape: readonly number[]; axis: number; taps: readonly Tap[][]; length: number },
): string {
  const { emit } = context
  const { shape, axis, taps, length } = options
  const weights = new Array<number>(length * taps.length).fill(0)
  for (const [place, sources] of taps.entries()) for (const { source, weight } of sources) weights[source * taps.length + place]! += weight
  const matrix = emitConstant(context, [length, taps.length], weights)
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1)
  const product = emit.op('MatMul', [matrix, emit.op('Reshape', [tensor, emit.ints([-1, taps.length, inner])])])
  return emit.op('Reshape', [product, emit.ints(shape.map((size, other) => (other === axis ? length : size)))])
}

/** The scale of every axis: as given, or of the sizes. */
function scalesOf({ node, constant, refuse }: GradientContext, from: readonly number[], to: readonly number[]): number[] {
  const axes = intsAttribute(node, 'axes')?.map((axis) => (axis < 0 ? axis + from.length : axis)) ?? from.map((_, axis) => axis)
  const [, , scales, sizes] = node.input
  if (sizes !== undefined && sizes !== '') {
    const policy = stringAttribute(node, 'keep_aspect_ratio_policy', 'stretch')
    if (policy !== 'stretch') refuse(`its keep_aspect_ratio_policy is "${policy}", expected "stretch"`)
    return from.map((length, axis) => (to[axis] as number) / length)
  }
  const given = constant(scales ?? '')
  if (given === undefined) return refuse('its scales are computed, expected constant ones or sizes')
  const all = from.map(() => 1)
  for (const [index, axis] of axes.entries()) all[axis] = (given.data as Float32Array)[index] as number
  return all
}
