// Gradients of reductions: the gradient of a sum goes to all that were summed, that of an extreme to where it was found.
import { intAttribute, intsAttribute } from '../../onnx/attributes.js'
import { dtypes, elementCount } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { storedInts } from './constants.js'

export const reduceSum: Gradient = (context) => [spread(context, context.upstream[0] as string)]

export const reduceMean: Gradient = (context) => {
  const { node, emit, dims, upstream, scalar } = context
  const share = elementCount(dims(node.output[0] as string)) / elementCount(dims(node.input[0] as string))
  return [spread(context, emit.op('Mul', [upstream[0] as string, scalar(share)]))]
}

/** ReduceMax and ReduceMin: elements that are equal to the extreme share its gradient. */
export const reduceExtreme: Gradient = (context) => {
  const { node, emit, dtype, upstream, scalar } = context
  const [x, y] = [node.input[0] as string, node.output[0] as string]
  const axes = reducedAxes(context)
  if (axes.length === 0) return [upstream[0]]
  const chosen = emit.op('Equal', [x, keptAxes(context, y)])
  const ones = emit.op('Cast', [chosen], { attributes: { to: dtypes[dtype(y)].onnx } })
  const count = emit.op('ReduceSum', [ones, emit.ints(axes)], { attributes: { keepdims: 1 } })
  const share = emit.op('Div', [keptAxes(context, upstream[0] as string), count])
  return [emit.op('Where', [chosen, share, scalar(0)])]
}

/** d Σ|x| = sign(x)·dx; zero at the kinks. */
export const reduceL1: Gradient = (context) => {
  const { node, emit, upstream } = context
  return [emit.op('Mul', [emit.op('Sign', [node.input[0] as string]), keptAxes(context, upstream[0] as string)])]
}

/** d√Σx² = x/√Σx²·dx; zero where the norm is. */
export const reduceL2: Gradient = (context) => {
  const { node, emit, upstream, scalar } = context
  const y = node.output[0] as string
  const share = emit.op('Where', [emit.op('Equal', [y, scalar(0)]), scalar(0), emit.op('Div', [upstream[0] as string, y])])
  return [emit.op('Mul', [node.input[0] as string, keptAxes(context, share)])]
}

/** dΣx² = 2x·dx */
export const reduceSumSquare: Gradient = (context) => {
  const { node, emit, upstream, scalar } = context
  const doubled = emit.op('Mul', [upstream[0] as string, scalar(2)])
  return [emit.op('Mul', [node.input[0] as string, keptAxes(context, doubled)])]
}

/** d ln Σeˣ = eˣ⁻ʸ·dx */
export const reduceLogSumExp: Gradient = (context) => {
  const { node, emit, upstream } = context
  const share = emit.op('Exp', [emit.op('Sub', [node.input[0] as string, keptAxes(context, node.output[0] as string)])])
  return [emit.op('Mul', [share, keptAxes(context, upstream[0] as string)])]
}

/** A tensor of the reduced shape, repeated along the axes that were reduced: of the input's shape. */
function spread(context: GradientContext, reduced: string): string {
  const { node, emit, dims } = context
  const full = dims(node.input[0] as string)
  return emit.op('Expand', [keptAxes(context, reduced), emit.ints(full)])
}

/** A tensor of the reduced shape with the reduced axes, of size 1, whether or not the node keeps them. */
function keptAxes(context: GradientContext, reduced: string): string {
  const { node, emit, dims } = context
  if (intAttribute(node, 'keepdims', 1) === 1) return reduced
  const axes = new Set(reducedAxes(context))
  return emit.op('Reshape', [reduced, emit.ints(dims(node.input[0] as string).map((size, axis) => (axes.has(axis) ? 1 : size)))])
}

/** The axes that a reduction is over, ascending and not negative; all where the node names none. */
function reducedAxes(context: GradientContext): number[] {
  const { node, dims } = context
  const rank = dims(node.input[0] as string).length
  const named = storedInts(context, 1, 'axes') ?? intsAttribute(node, 'axes')
  if (named === undefined || named.length === 0)
    return intAttribute(node, 'noop_with_empty_axes', 0) === 1 ? [] : Array.from({ length: rank }, (_, axis) => axis)
  return named.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b)
}
