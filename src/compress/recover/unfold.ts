// From a layer's tensors to rows of a linear system: for chosen output positions, the inputs that each meets (of Conv:
// im2col) and how far its outputs are from those wanted. Pure.
import { intsAttribute, stringAttribute } from '../../onnx/attributes.js'
import type { NodeProto } from '../../onnx/proto.js'
import type { Tensor } from '../../tensor/tensor.js'
import type { Layer } from './layer.js'

/** [groups, count, …] each. */
export interface Rows {
  count: number
  /** Inputs: `width` wide. */
  inputs: Float64Array<ArrayBuffer>
  /** Wanted less present outputs: `rows` wide. */
  residuals: Float64Array<ArrayBuffer>
  /** Wanted outputs, channel by channel: [groups · rows, count]. */
  wanted: Float64Array
}

export interface LayerTensors {
  input: Tensor
  /** What the layer puts out now. */
  present: Tensor
  /** What it should put out: channels `channels` of this tensor. */
  wanted: Tensor
  channels: readonly number[]
}

/** Output positions of a layer's output: all but its channels. Conv has channels second, products last. */
export function positionsOf({ node }: Layer, { dims }: Tensor): number {
  const channels = node.opType === 'Conv' ? 1 : dims.length - 1
  return dims.reduce((product, dim, axis) => (axis === channels ? product : product * dim), 1)
}

/** At most `most` of `count` positions, ascending, one out of each of `most` equal stretches. */
export function choosePositions(count: number, most: number, random: () => number): Float64Array {
  if (count <= most) return Float64Array.from({ length: count }, (_, i) => i)
  return Float64Array.from({ length: most }, (_, i) => {
    const [from, end] = [Math.floor((i * count) / most), Math.floor(((i + 1) * count) / most)]
    return from + Math.floor(random() * (end - from))
  })
}

export function unfold(layer: Layer, tensors: LayerTensors, chosen: Float64Array): Rows {
  const inputs = layer.node.opType === 'Conv' ? patchesAt(layer, tensors, chosen) : lastDimensionAt(layer, tensors.input, chosen)
  return { count: chosen.length, inputs, ...outputsAt(layer, tensors, chosen) }
}

function outputsAt({ groups, rows, node }: Layer, { present, wanted, channels }: LayerTensors, chosen: Float64Array): Pick<Rows, 'residuals' | 'wanted'> {
  const all = groups * rows
  const [residuals, values] = [new Float64Array(all * chosen.length), new Float64Array(all * chosen.length)]
  const [now, goal] = [present.data as Float32Array, wanted.data as Float32Array]
  const spatial = node.opType === 'Conv' ? present.dims.slice(2).reduce((product, dim) => product * dim, 1) : 1
  const goalChannels = wanted.dims[node.opType === 'Conv' ? 1 : wanted.dims.length - 1]!
  for (let i = 0; i < chosen.length; i++) {
    const position = chosen[i]!
    const [outer, inner] = [Math.floor(position / spatial), position % spatial]
    for (let channel = 0; channel < all; channel++) {
      const [group, row] = [Math.floor(channel / rows), channel % rows]
      const value = goal[(outer * goalChannels + channels[channel]!) * spatial + inner]!
      values[channel * chosen.length + i] = value
      residuals[(group * chosen.length + i) * rows + row] = value - now[(outer * all + channel) * spatial + inner]!
    }
  }
  return { residuals, wanted: values }
}

function lastDimensionAt({ width }: Layer, { data }: Tensor, chosen: Float64Array): Float64Array<ArrayBuffer> {
  const result = new Float64Array(width * chosen.length)
  for (let i = 0; i < chosen.length; i++) result.set((data as Float32Array).subarray(chosen[i]! * width, (chosen[i]! + 1) * width), i * width)
  return result
}

function patchesAt({ node, groups, width, dims }: Layer, { input, present }: LayerTensors, chosen: Float64Array): Float64Array<ArrayBuffer> {
  const kernel = dims.slice(2)
  const [sizes, outSizes] = [input.dims.slice(2), present.dims.slice(2)]
  const { strides, dilations, begins } = convolutionOf(node, { kernel, sizes, outSizes })
  const [taps, size, outSize] = [kernel, sizes, outSizes].map((list) => list.reduce((product, dim) => product * dim, 1)) as [number, number, number]
  const perGroup = width / taps
  const values = input.data as Float32Array
  const result = new Float64Array(groups * chosen.length * width)
  const tapIndices = Array.from({ length: taps }, (_, tap) => unravel(tap, kernel))
  for (let i = 0; i < chosen.length; i++) {
    const batch = Math.floor(chosen[i]! / outSize)
    const at = unravel(chosen[i]! % outSize, outSizes)
    for (const [tap, offsets] of tapIndices.entries()) {
      const source = at.map((place, axis) => place * strides[axis]! + offsets[axis]! * dilations[axis]! - begins[axis]!)
      if (source.some((place, axis) => place < 0 || place >= sizes[axis]!)) continue
      const inner = source.reduce((index, place, axis) => index * sizes[axis]! + place, 0)
      for (let channel = 0; channel < perGroup * groups; channel++) {
        const [group, own] = [Math.floor(channel / perGroup), channel % perGroup]
        result[(group * chosen.length + i) * width + own * taps + tap] = values[(batch * perGroup * groups + channel) * size + inner]!
      }
    }
  }
  return result
}

interface Window {
  strides: readonly number[]
  dilations: readonly number[]
  /** Padding before the first element of each dimension. */
  begins: readonly number[]
}

/** https://onnx.ai/onnx/operators/onnx__Conv.html */
function convolutionOf(
  node: NodeProto,
  { kernel, sizes, outSizes }: { kernel: readonly number[]; sizes: readonly number[]; outSizes: readonly number[] },
): Window {
  const strides = intsAttribute(node, 'strides') ?? kernel.map(() => 1)
  const dilations = intsAttribute(node, 'dilations') ?? kernel.map(() => 1)
  const auto = stringAttribute(node, 'auto_pad', 'NOTSET')
  if (auto === 'NOTSET') return { strides, dilations, begins: (intsAttribute(node, 'pads') ?? []).slice(0, kernel.length).concat(kernel.map(() => 0)) }
  const begins = kernel.map((length, axis) => {
    const covered = (outSizes[axis]! - 1) * strides[axis]! + (length - 1) * dilations[axis]! + 1
    const padding = auto === 'VALID' ? 0 : Math.max(0, covered - sizes[axis]!)
    return auto === 'SAME_LOWER' ? Math.ceil(padding / 2) : Math.floor(padding / 2)
  })
  return { strides, dilations, begins }
}

function unravel(index: number, dims: readonly number[]): number[] {
  const result = new Array<number>(dims.length)
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    result[axis] = index % dims[axis]!
    index = Math.floor(index / dims[axis]!)
  }
  return result
}
