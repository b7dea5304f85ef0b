// Gradients of reductions: the gradient of a sum goes to all that were summed.
import { intAttribute, intsAttribute } from '../../onnx/attributes.js'
import { elementCount } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'

export const reduceSum: Gradient = (context) => [spread(context, context.upstream[0] as string)]

export const reduceMean: Gradient = (context) => {
  const { node, emit, dims, upstream, scalar } = context
  const share = elementCount(dims(node.output[0] as string)) / elementCount(dims(node.input[0] as string))
  return [spread(context, emit.op('Mul', [upstream[0] as string, scalar(share)]))]
}

/** A tensor of the reduced shape, repeated along the axes that were reduced: of the input's shape. */
export function spread(context: GradientContext, reduced: string): string {
  const { node, emit, dims } = context
  const full = dims(node.input[0] as string)
  return emit.op('Expand', [keptAxes(context, reduced), emit.ints(full)])
}

/** A tensor of the reduced shape with the reduced axes, of size 1, whether or not the node keeps them. */
export function keptAxes(context: GradientContext, reduced: string): string {
  const { node, emit, dims } = context
  if (intAttribute(node, 'keepdims', 1) === 1) return reduced
  const axes = new Set(reducedAxes(context))
  return emit.op('Reshape', [reduced, emit.ints(dims(node.input[0] as string).map((size, axis) => (axes.has(axis) ? 1 : size)))])
}

/** The axes that a reduction is over, ascending and not negative; all where the node names none. */
export function reducedAxes({ node, dims, constant, refuse }: GradientContext): number[] {
  const rank = dims(node.input[0] as string).length
  const named = node.input[1] === undefined || node.input[1] === '' ? intsAttribute(node, 'axes') : constantInts(constant(node.input[1]), refuse)
  if (named === undefined || named.length === 0)
    return intAttribute(node, 'noop_with_empty_axes', 0) === 1 ? [] : Array.from({ length: rank }, (_, axis) => axis)
  return named.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b)
}

function constantInts(tensor: ReturnType<GradientContext['constant']>, refuse: GradientContext['refuse']): number[] {
  if (tensor === undefined) refuse('its axes are computed, expected constant ones')
  return Array.from(tensor.data as BigInt64Array, Number)
}
