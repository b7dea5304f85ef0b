// Gradients of pools: an average's gradient is shared among the window's elements, a maximum's goes to the largest.
import { intAttribute, intsAttribute, stringAttribute } from '../../onnx/attributes.js'
import type { NodeProto } from '../../onnx/proto.js'
import { elementCount } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { emitConstant } from './constants.js'
import { emitInputGradient } from './convolution.js'
import { emitScatterSum } from './scatter.js'
import { areApart, isTiling, overhang, windowsOf, type Windows } from './windows.js'

/** The convolution of every channel with one over the number of elements that the average is of, which padding may lower. */
export const averagePool: Gradient = (context) => {
  const { node, emit, dims, scalar } = context
  const dimsX = dims(node.input[0] as string)
  const [samples, channels] = dimsX as [number, number]
  const kernel = intsAttribute(node, 'kernel_shape') as number[]
  const windows = windowsOf(node, { input: dimsX.slice(2), output: dims(node.output[0] as string).slice(2), kernel })
  const counts = countsOf(node, windows)
  const even = counts.every((count) => count === counts[0])
  const factor = even
    ? scalar(1 / (counts[0] as number))
    : emitConstant(
        context,
        [1, 1, ...windows.output],
        counts.map((count) => 1 / count),
      )
  const share = emit.op('Mul', [context.upstream[0] as string, factor])
  if (isTiling(windows)) {
    const single = windows.output.flatMap((count) => [count, 1])
    const repeated = windows.output.flatMap((count, axis) => [count, kernel[axis] as number])
    const split = emit.op('Reshape', [share, emit.ints([samples, channels, ...single])])
    const spread = emit.op('Expand', [split, emit.ints([samples, channels, ...repeated])])
    return [emit.op('Reshape', [spread, emit.ints(dimsX)])]
  }
  // Channels as samples: one kernel for all of them.
  const dy = emit.op('Reshape', [share, emit.ints([samples * channels, 1, ...windows.output])])
  const weights = emit.op('Expand', [scalar(1), emit.ints([1, 1, ...kernel])])
  const dx = emitInputGradient(emit, { dy, samples: samples * channels, weights, dimsW: [1, 1, ...kernel], windows, group: 1 })
  return [emit.op('Reshape', [dx, emit.ints(dimsX)])]
}

export const globalAveragePool: Gradient = ({ node, emit, dims, upstream, scalar }) => {
  const dimsX = dims(node.input[0] as string)
  const share = emit.op('Mul', [upstream[0] as string, scalar(1 / elementCount(dimsX.slice(2)))])
  return [emit.op('Expand', [share, emit.ints(dimsX)])]
}

/**
 * The gradient is added where the maximum was found: `Indices` are places in the whole input. Where no element is in two
 * windows, MaxUnpool puts it there in a fifth of the time; the runtime has it for float32 alone.
 */
export const maxPool: Gradient = (context) => {
  const { node, emit, dims, dtype, upstream } = context
  const [dy] = upstream
  if (dy === undefined) return []
  const dimsX = dims(node.input[0] as string)
  const kernel = intsAttribute(node, 'kernel_shape') as number[]
  const windows = windowsOf(node, { input: dimsX.slice(2), output: dims(node.output[0] as string).slice(2), kernel })
  if (dtype(node.output[0] as string) === 'float32' && areApart(windows)) {
    // The indices say it all. Of windows the runtime only makes a least size, which is larger than the input where some are cut off.
    const single = kernel.map(() => 1)
    return [emit.op('MaxUnpool', [dy, indicesOf(context), emit.ints(dimsX)], { attributes: { kernel_shape: single, strides: single } })]
  }
  const flat = (tensor: string) => emit.op('Reshape', [tensor, emit.ints([-1])])
  const scattered = emitScatterSum(context, { indices: flat(indicesOf(context)), updates: flat(dy), dims: [elementCount(dimsX)], axis: 0 })
  return [emit.op('Reshape', [scattered, emit.ints(dimsX)])]
}

/** Equal maxima share the gradient. */
export const globalMaxPool: Gradient = ({ node, emit, dims, upstream, scalar }) => {
  const [x] = node.input as [string]
  const axes = dims(x)
    .slice(2)
    .map((_, axis) => axis + 2)
  const largest = emit.op('Where', [emit.op('Equal', [x, node.output[0] as string]), scalar(1), scalar(0)])
  const count = emit.op('ReduceSum', [largest, emit.ints(axes)], { attributes: { keepdims: 1 } })
  return [emit.op('Mul', [largest, emit.op('Div', [upstream[0] as string, count])])]
}

/** Where the maxima are; searched for anew where the node does not say, or counts along columns. */
function indicesOf({ node, emit }: GradientContext): string {
  const given = node.output[1]
  if (given !== undefined && given !== '' && intAttribute(node, 'storage_order', 0) === 0) return given
  const indices = emit.ops('MaxPool', [node.input[0] as string], 2)[1] as string
  const pool = emit.nodes.at(-1) as NodeProto
  pool.attribute = node.attribute.filter(({ name }) => name !== 'storage_order')
  return indices
}

/** How many elements each window's average is of, the last axis fastest. Padding that rounding up adds never counts. */
function countsOf(node: NodeProto, windows: Windows): number[] {
  const { input, output, kernel, strides, dilations, begin } = windows
  const padded = intAttribute(node, 'count_include_pad', 0) === 1
  const ends = endPads(node, windows)
  const perAxis = input.map((size, axis) => {
    const [low, high] = padded ? [-(begin[axis] as number), size + (ends[axis] as number)] : [0, size]
    return Array.from({ length: output[axis] as number }, (_, window) => {
      const start = window * (strides[axis] as number) - (begin[axis] as number)
      const places = Array.from({ length: kernel[axis] as number }, (_, at) => start + at * (dilations[axis] as number))
      return places.filter((place) => place >= low && place < high).length
    })
  })
  return perAxis.reduce((counts, along) => counts.flatMap((count) => along.map((more) => count * more)), [1])
}

/** Padding at the end as the node has it. */
function endPads(node: NodeProto, windows: Windows): number[] {
  const automatic = stringAttribute(node, 'auto_pad', 'NOTSET')
  if (automatic.startsWith('SAME')) return overhang(windows).map((over) => Math.max(0, over))
  const pads = automatic === 'VALID' ? undefined : intsAttribute(node, 'pads')
  return windows.input.map((_, axis) => pads?.[windows.input.length + axis] ?? 0)
}
