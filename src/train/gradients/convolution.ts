// Gradients of convolutions. Conv and ConvTranspose are each other's adjoints, so both use the same two functions:
// what the windows' gradient is for the input, and for the weights. Dumoulin and Visin, "A guide to convolution
// arithmetic for deep learning" (2016), chapter 4.
import { intAttribute, intsAttribute, stringAttribute } from '../../onnx/attributes.js'
import type { Emitter } from '../../onnx/emitter.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { emitWeightGradient } from './convolution-weights.js'
import { beginPads, overhang, reach, shared, windowsOf, type Windows } from './windows.js'

/** Y = W ⋆ X + b, for any groups, strides, pads and dilations. */
export const conv: Gradient = (context) => {
  const { node, emit, dims } = context
  const [x, weights] = node.input as [string, string]
  const [dy] = context.upstream as [string]
  const dimsW = dims(weights)
  const group = intAttribute(node, 'group', 1)
  const windows = windowsOf(node, { input: dims(x).slice(2), output: dims(node.output[0] as string).slice(2), kernel: dimsW.slice(2) })
  return [
    context.wants(0) ? emitInputGradient(emit, { dy, samples: dims(x)[0] as number, weights, dimsW, windows, group }) : undefined,
    context.wants(1) ? emitWeightGradient(emit, { x, dimsX: dims(x), dy, dimsW, windows, group }) : undefined,
    context.wants(2) ? emitChannelSum(context, dy) : undefined,
  ]
}

/** The adjoint of Conv in X: its own gradient by X is Conv, and that by W has the parts of X and dY exchanged. */
export const convTranspose: Gradient = (context) => {
  const { node, emit, dims } = context
  const [x, weights] = node.input as [string, string]
  const [dy] = context.upstream as [string]
  const [dimsX, dimsY, dimsW] = [dims(x), dims(node.output[0] as string), dims(weights)]
  const group = intAttribute(node, 'group', 1)
  const windows = transposedWindows(context, { input: dimsY.slice(2), output: dimsX.slice(2), kernel: dimsW.slice(2) })
  return [
    context.wants(0) ? emitConv(emit, { x: dy, weights, windows, group }) : undefined,
    context.wants(1) ? emitWeightGradient(emit, { x: dy, dimsX: dimsY, dy: x, dimsW, windows, group }) : undefined,
    context.wants(2) ? emitChannelSum(context, dy) : undefined,
  ]
}

/** With fewer windows, turning the weights round takes longer than Conv saves. */
const WORTH_MIRRORING = 512

interface InputGradientOptions {
  /** [N, M, windows…] */
  dy: string
  samples: number
  /** [M, C/group, kernel…] */
  weights: string
  dimsW: readonly number[]
  windows: Windows
  group: number
}

/** Emits the gradient of Conv by its input, [N, C, input…]: every window's gradient is added where the window lies. */
export function emitInputGradient(emit: Emitter, options: InputGradientOptions): string {
  const { dy, samples, weights, windows, group } = options
  const { kernel, strides, dilations, begin } = windows
  const over = overhang(windows)
  const whole = kernel.map((_, axis) => reach(windows, axis) - 1)
  const pads = [...whole.map((size, axis) => size - (begin[axis] as number)), ...whole.map((size, axis) => size - (over[axis] as number))]
  const count = windows.output.reduce((product, size) => product * size, samples)
  if (count >= WORTH_MIRRORING && strides.every((stride) => stride === 1) && pads.every((pad) => pad >= 0)) {
    // The runtime's Conv is faster than its ConvTranspose, most of all by channel.
    return emit.op('Conv', [dy, emitMirrored(emit, options)], { attributes: { group, dilations: [...dilations], pads } })
  }
  const attributes = {
    group,
    strides: [...strides],
    dilations: [...dilations],
    pads: [...begin, ...over.map((size) => Math.max(0, size))],
    output_padding: over.map((size) => Math.max(0, -size)),
  }
  return emit.op('ConvTranspose', [dy, weights], { attributes })
}

/** Weights of the Conv that undoes one of stride 1: inputs and outputs exchanged within groups, places in reverse order. */
function emitMirrored(emit: Emitter, { weights, dimsW, group }: InputGradientOptions): string {
  const [channelsOut, perGroup, ...kernel] = dimsW as [number, number, ...number[]]
  const spatial = kernel.map((_, axis) => axis + 2)
  const [first, beyond, back] = [-1, -1 - Number.MAX_SAFE_INTEGER, -1].map((bound) => emit.ints(kernel.map(() => bound))) as [string, string, string]
  const reversed = kernel.every((size) => size === 1) ? weights : emit.op('Slice', [weights, first, beyond, emit.ints(spatial), back])
  if (perGroup === 1 && channelsOut === group) return reversed
  const split = emit.op('Reshape', [reversed, emit.ints([group, channelsOut / group, perGroup, ...kernel])])
  const exchanged = emit.op('Transpose', [split], { attributes: { perm: [0, 2, 1, ...spatial.map((axis) => axis + 1)] } })
  return emit.op('Reshape', [exchanged, emit.ints([group * perGroup, channelsOut / group, ...kernel])])
}

/** Emits Conv over given windows. */
function emitConv(emit: Emitter, { x, weights, windows, group }: { x: string; weights: string; windows: Windows; group: number }): string {
  const { strides, dilations, begin } = windows
  const pads = [...begin, ...overhang(windows).map((over) => Math.max(0, over))]
  return emit.op('Conv', [x, weights], { attributes: { group, strides: [...strides], dilations: [...dilations], pads } })
}

/** The gradient of a bias: the sum over all but the channels. */
function emitChannelSum({ node, emit, dims }: GradientContext, dy: string): string {
  const axes = dims(node.output[0] as string).flatMap((_, axis) => (axis === 1 ? [] : [axis]))
  return emit.op('ReduceSum', [dy, emit.ints(axes)], { attributes: { keepdims: 0 } })
}

/** The windows of the Conv whose adjoint a ConvTranspose is. A given output shape overrides the node's pads. */
function transposedWindows({ node }: GradientContext, sizes: Pick<Windows, 'input' | 'output' | 'kernel'>): Windows {
  const windows = windowsOf(node, sizes)
  const outputPadding = intsAttribute(node, 'output_padding') ?? sizes.input.map(() => 0)
  const unpadded = overhang({ ...windows, begin: sizes.input.map(() => 0) })
  const total = unpadded.map((size, axis) => size + (outputPadding[axis] as number))
  const shaped = (intsAttribute(node, 'output_shape') ?? []).length > 0
  return { ...windows, begin: shaped ? shared(total, stringAttribute(node, 'auto_pad')) : beginPads(node, total) }
}
