// Gradients of operators that move or repeat elements: the gradient is moved back, or summed over the repetitions.
import { intsAttribute } from '../../onnx/attributes.js'
import type { Gradient } from '../gradient.js'
import { toInput } from './arithmetic.js'

/** Reshape, Flatten, Squeeze, Unsqueeze: the elements keep their order. */
export const reshaped: Gradient = ({ node, emit, dims, upstream }) => [emit.op('Reshape', [upstream[0] as string, emit.ints(dims(node.input[0] as string))])]

/** Transposed back; without a permutation the axes are reversed. */
export const transpose: Gradient = ({ node, emit, upstream }) => {
  const perm = intsAttribute(node, 'perm')
  const inverse = perm?.map((_, axis) => perm.indexOf(axis))
  return [emit.op('Transpose', [upstream[0] as string], { attributes: inverse === undefined ? {} : { perm: inverse } })]
}

export const expand: Gradient = (context) => [toInput(context, 0, context.upstream[0] as string)]

/** Each axis is so many copies of the input's, one after the other. */
export const tile: Gradient = ({ node, emit, dims, upstream }) => {
  const [x, y] = [dims(node.input[0] as string), dims(node.output[0] as string)]
  if (x.every((size, axis) => size === y[axis])) return [upstream[0]]
  const copies = emit.op('Reshape', [upstream[0] as string, emit.ints(x.flatMap((size, axis) => [(y[axis] as number) / size, size]))])
  return [emit.op('ReduceSum', [copies, emit.ints(x.map((_, axis) => 2 * axis))], { attributes: { keepdims: 0 } })]
}
