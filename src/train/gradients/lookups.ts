// Gradients of lookups: what was taken several times gets the sum.
import { intAttribute } from '../../onnx/attributes.js'
import { elementCount } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { storedNumbers } from './constants.js'
import { emitPlaced } from './parts.js'
import { emitScatterSum } from './scatter.js'

/** Whole slices along an axis, by indices of any shape; one slice at a constant index is only put back in its place. */
export const gather: Gradient = (context) => {
  const { node, emit, dims, upstream } = context
  const [data, indices] = node.input as [string, string]
  const [dy] = upstream as [string]
  const full = dims(data)
  const axis = axisOf(context)
  const count = elementCount(dims(indices))
  const taken = full.with(axis, count)
  const slices = dims(indices).length === 1 ? dy : emit.op('Reshape', [dy, emit.ints(taken)])
  const [single] = count === 1 ? (storedNumbers(context, 1) ?? []) : []
  if (single !== undefined) {
    const at = single < 0 ? single + (full[axis] as number) : single
    return [emitPlaced(context, slices, { firsts: full.map((_, other) => (other === axis ? at : 0)), dims: taken, full })]
  }
  const along = emit.op('Reshape', [indices, emit.ints(full.map((_, other) => (other === axis ? count : 1)))])
  return [emitScatterSum(context, { indices: emit.op('Expand', [along, emit.ints(taken)]), updates: slices, dims: full, axis })]
}

/** Single elements, by indices of the output's shape. */
export const gatherElements: Gradient = (context) => {
  const [data, indices] = context.node.input as [string, string]
  return [emitScatterSum(context, { indices, updates: context.upstream[0] as string, dims: context.dims(data), axis: axisOf(context) })]
}

function axisOf({ node, dims }: GradientContext): number {
  const axis = intAttribute(node, 'axis', 0)
  return axis < 0 ? axis + dims(node.input[0] as string).length : axis
}
