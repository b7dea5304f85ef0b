// Gradients of operators that put tensors together and cut them apart along axes: Concat and Split, Pad and Slice undo
// each other.
import { intAttribute, stringAttribute } from '../../onnx/attributes.js'
import { elementCount } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { emitZeros, storedInts } from './constants.js'

export const concat: Gradient = (context) => {
  const { node, emit, dims, upstream } = context
  const axis = intAttribute(node, 'axis', 0)
  const sizes = node.input.map((input) => dims(input).at(axis) as number)
  const parts = emit.ops('Split', [upstream[0] as string, emit.ints(sizes)], sizes.length, { attributes: { axis } })
  return parts.map((part, index) => (context.wants(index) ? part : undefined))
}

/** Parts that the loss does not depend on have gradient zero. */
export const split: Gradient = (context) => {
  const { node, emit, dims, upstream } = context
  const parts = node.output.map((output, index) => upstream[index] ?? emitZeros(context, dims(output)))
  return [emit.op('Concat', parts, { attributes: { axis: intAttribute(node, 'axis', 0) } })]
}

/** The gradient with its axes in the order of the input's, its elements as far apart as they were, and zeros around. */
export const slice: Gradient = (context) => {
  const { node, emit, dims, upstream } = context
  const [full, cut] = [dims(node.input[0] as string), dims(node.output[0] as string)]
  if (elementCount(cut) === 0) return [emitZeros(context, full)]
  const ranges = slicedRanges(context, full, cut)
  const backwards = ranges.flatMap(({ step }, axis) => (step < 0 ? [axis] : []))
  const forward = backwards.length === 0 ? (upstream[0] as string) : emitReversed(context, upstream[0] as string, cut, backwards)
  const strides = ranges.map(({ step }) => Math.abs(step))
  const kept = ranges.map(({ first }, axis) => Math.min((cut[axis] as number) * (strides[axis] as number), (full[axis] as number) - first))
  return [emitPlaced(context, emitSpread(emit, forward, { cut, strides, kept }), { firsts: ranges.map(({ first }) => first), dims: kept, full })]
}

/** Constant padding: what was not added, and for the padded value the sum of what was. Other modes repeat elements, and are refused. */
export const pad: Gradient = (context) => {
  const { node, emit, dims, upstream, refuse } = context
  const [x, y] = [dims(node.input[0] as string), dims(node.output[0] as string)]
  const [dy] = upstream as [string]
  const mode = stringAttribute(node, 'mode', 'constant')
  if (mode !== 'constant') refuse(`its mode is "${mode}", expected "constant"`)
  const pads = storedInts(context, 1, 'pads') ?? []
  const begins = x.map(() => 0)
  const axes = storedInts(context, 3, 'axes') ?? x.map((_, axis) => axis)
  axes.forEach((axis, index) => (begins[axis < 0 ? axis + x.length : axis] = pads[index] as number))
  // Negative padding cuts off: elements from first to end of the input are in the output.
  const firsts = begins.map((begin) => Math.max(0, -begin))
  const ends = begins.map((begin, axis) => Math.min(x[axis] as number, (y[axis] as number) - begin))
  const lengths = ends.map((end, axis) => Math.max(0, end - (firsts[axis] as number)))
  const nothing = elementCount(lengths) === 0
  const inner = nothing ? undefined : emitPart(emit, dy, { starts: begins.map((begin) => Math.max(0, begin)), lengths, dims: y })
  const byInput = () => (inner === undefined ? emitZeros(context, x) : emitPlaced(context, inner, { firsts, dims: lengths, full: x }))
  const byValue = () => {
    const sum = (tensor: string) => emit.op('ReduceSum', [tensor], { attributes: { keepdims: 0 } })
    const added = inner === undefined ? sum(dy) : emit.op('Sub', [sum(dy), sum(inner)])
    return emit.op('Reshape', [added, emit.ints(dims(node.input[2] as string))])
  }
  return [context.wants(0) ? byInput() : undefined, undefined, context.wants(2) ? byValue() : undefined]
}

/** A tensor of shape `dims`, put at `firsts` into zeros of shape `full`. */
export function emitPlaced(
  { emit }: GradientContext,
  tensor: string,
  { firsts, dims, full }: { firsts: readonly number[]; dims: readonly number[]; full: readonly number[] },
): string {
  const after = full.map((size, axis) => size - (firsts[axis] as number) - (dims[axis] as number))
  return [...firsts, ...after].every((pad) => pad === 0) ? tensor : emit.op('Pad', [tensor, emit.ints([...firsts, ...after])])
}

/** Along each axis, the lowest index that was taken, and the step; 1 where the step does not matter. */
function slicedRanges(context: GradientContext, full: readonly number[], cut: readonly number[]): { first: number; step: number }[] {
  const ranges = full.map(() => ({ first: 0, step: 1 }))
  const starts = storedInts(context, 1, 'starts') ?? []
  const axes = storedInts(context, 3, 'axes') ?? starts.map((_, axis) => axis)
  const steps = storedInts(context, 4, 'steps') ?? starts.map(() => 1)
  axes.forEach((named, index) => {
    const axis = named < 0 ? named + full.length : named
    const [size, count, step, start] = [full[axis], cut[axis], steps[index], starts[index]] as [number, number, number, number]
    const from = Math.min(Math.max(start < 0 ? start + size : start, 0), size - 1)
    ranges[axis] = { first: step < 0 ? from + (count - 1) * step : from, step: count === 1 ? 1 : step }
  })
  return ranges
}

function emitReversed({ emit }: GradientContext, tensor: string, dims: readonly number[], axes: readonly number[]): string {
  const ends = axes.map((axis) => -1 - (dims[axis] as number))
  return emit.op('Slice', [tensor, emit.ints(axes.map(() => -1)), emit.ints(ends), emit.ints(axes), emit.ints(axes.map(() => -1))])
}

/** Zeros after each element, so that elements are `strides` apart, and of that the first `kept` along each axis. */
function emitSpread(
  emit: GradientContext['emit'],
  tensor: string,
  { cut, strides, kept }: { cut: readonly number[]; strides: readonly number[]; kept: readonly number[] },
): string {
  if (strides.every((stride) => stride === 1)) return tensor
  const alone = emit.op('Reshape', [tensor, emit.ints(cut.flatMap((size) => [size, 1]))])
  const zeros = strides.flatMap((stride) => [0, stride - 1])
  const padded = emit.op('Pad', [alone, emit.ints([...zeros.map(() => 0), ...zeros])])
  const dims = cut.map((size, axis) => size * (strides[axis] as number))
  return emitPart(emit, emit.op('Reshape', [padded, emit.ints(dims)]), { starts: kept.map(() => 0), lengths: kept, dims })
}

/** A block of a tensor of shape `dims`: the tensor itself where the block is all of it. */
function emitPart(
  emit: GradientContext['emit'],
  tensor: string,
  { starts, lengths, dims }: { starts: readonly number[]; lengths: readonly number[]; dims: readonly number[] },
): string {
  if (lengths.every((length, axis) => length === dims[axis])) return tensor
  const ends = starts.map((start, axis) => start + (lengths[axis] as number))
  return emit.op('Slice', [tensor, emit.ints(starts), emit.ints(ends)])
}
