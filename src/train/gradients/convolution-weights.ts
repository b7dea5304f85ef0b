// The gradient of a convolution by its weights: matrix products of the outputs' gradients and of the windows, over all
// windows of all samples. Which form is fast depends on how the windows lie; all are right for any.
import type { Emitter } from '../../onnx/emitter.js'
import { emitProduct } from './products.js'
import { isTiling, overhang, type Windows } from './windows.js'

export interface WeightGradientOptions {
  /** [N, C, input…] */
  x: string
  dimsX: readonly number[]
  /** [N, M, windows…] */
  dy: string
  /** [M, C/group, kernel…] */
  dimsW: readonly number[]
  windows: Windows
  group: number
}

/** Kernels of more places would make graphs of too many slices. */
const MOST_SLICES = 128
/** With fewer channels in a group a product for each place is too narrow to be fast. */
const NARROW = 16

/** Emits the gradient by the weights, of shape `dimsW`. */
export function emitWeightGradient(emit: Emitter, options: WeightGradientOptions): string {
  const { dy, dimsX, dimsW, windows, group } = options
  const [channelsOut] = dimsW as [number]
  const count = size(windows.output)
  const split = emit.op('Reshape', [dy, emit.ints([dimsX[0] as number, group, channelsOut / group, count])])
  const rows = emit.op('Reshape', [emit.op('Transpose', [split], { attributes: { perm: [1, 2, 0, 3] } }), emit.ints([group, channelsOut / group, -1])])
  if (isTiling(windows)) return fromTiles(emit, rows, options)
  // Slices with steps are slow, and pay only where a product does much with each.
  const strided = windows.strides.some((stride) => stride > 1)
  if (size(windows.kernel) > MOST_SLICES || (strided && (dimsW[1] as number) < NARROW)) return fromConvolution(emit, rows, options)
  return fromSlices(emit, rows, options)
}

/** Windows side by side: cut by a reshape, so that one transposition gives the matrix. */
function fromTiles(emit: Emitter, rows: string, { x, dimsX, dimsW, windows, group }: WeightGradientOptions): string {
  const [samples] = dimsX as [number]
  const perGroup = dimsW[1] as number
  const cut = windows.output.flatMap((count, axis) => [count, windows.kernel[axis] as number])
  const places = windows.kernel.map((_, axis) => 4 + 2 * axis)
  const perm = [1, 2, ...places, 0, ...places.map((axis) => axis - 1)]
  const tiles = emit.op('Transpose', [emit.op('Reshape', [x, emit.ints([samples, group, perGroup, ...cut])])], { attributes: { perm } })
  const columns = emit.op('Reshape', [tiles, emit.ints([group, perGroup * size(windows.kernel), -1])])
  return emit.op('Reshape', [emitProduct(emit, rows, columns, { transB: true }), emit.ints(dimsW)])
}

/** All elements at one place of the windows are a strided slice of the padded input; one slice for each place. */
function fromSlices(emit: Emitter, rows: string, { x, dimsX, dimsW, windows, group }: WeightGradientOptions): string {
  const { kernel, strides, dilations, output, begin } = windows
  const perGroup = dimsW[1] as number
  const padded = emitPadded(emit, x, windows)
  const sizes = overhang(windows).map((over, axis) => (windows.input[axis] as number) + (begin[axis] as number) + Math.max(0, over))
  const split = emit.op('Reshape', [padded, emit.ints([dimsX[0] as number, group, perGroup, ...sizes])])
  const perm = [1, 2, 0, ...kernel.map((_, axis) => axis + 3)]
  const channelsFirst = emit.op('Transpose', [split], { attributes: { perm } })
  const axes = emit.ints(kernel.map((_, axis) => axis + 3))
  const slices = placesOf(kernel).map((place) => {
    const starts = place.map((at, axis) => at * (dilations[axis] as number))
    const ends = starts.map((start, axis) => start + ((output[axis] as number) - 1) * (strides[axis] as number) + 1)
    return emit.op('Slice', [channelsFirst, emit.ints(starts), emit.ints(ends), axes, emit.ints(strides)])
  })
  const columnsOf = (slice: string, dims: readonly number[]) => emit.op('Reshape', [slice, emit.ints(dims)])
  const perGroupOut = (dimsW[0] as number) / group
  const narrow = perGroup < NARROW && (perGroup > 1 || group === 1)
  if (narrow || (dimsX[0] as number) * size(output) < 2 * perGroupOut) {
    // The joined windows are smaller than the products would be, and give one product in the order of the weights.
    const joined = emit.op(
      'Concat',
      slices.map((slice) => columnsOf(slice, [group, perGroup, 1, -1])),
      { attributes: { axis: 2 } },
    )
    const product = emitProduct(emit, rows, columnsOf(joined, [group, perGroup * slices.length, -1]), { transB: true })
    return emit.op('Reshape', [product, emit.ints(dimsW)])
  }
  const products = slices.map((slice) => emitProduct(emit, rows, columnsOf(slice, [group, perGroup, -1]), { transB: true }))
  const joined = emit.op('Concat', products, { attributes: { axis: 2 } })
  const placed = emit.op('Reshape', [joined, emit.ints([dimsW[0] as number, slices.length, perGroup])])
  return emit.op('Reshape', [emit.op('Transpose', [placed], { attributes: { perm: [0, 2, 1] } }), emit.ints(dimsW)])
}

/** Conv with the gradients as kernels and channels as samples: its strides are the dilations, its dilations the strides. */
function fromConvolution(emit: Emitter, rows: string, { x, dimsX, dimsW, windows, group }: WeightGradientOptions): string {
  const { input, output, kernel, strides, dilations, begin } = windows
  const [samples] = dimsX as [number]
  const [channelsOut, perGroup] = dimsW as [number, number]
  const over = overhang(windows)
  const spatial = kernel.map((_, axis) => axis + 3)
  const split = emit.op('Reshape', [x, emit.ints([samples, group, perGroup, ...input])])
  const images = emit.op('Transpose', [split], { attributes: { perm: [2, 1, 0, ...spatial] } })
  const signals = emit.op('Reshape', [images, emit.ints([perGroup, group * samples, ...input])])
  const filters = emit.op('Reshape', [rows, emit.ints([channelsOut, samples, ...output])])
  const pads = [...begin, ...over.map((beyond) => Math.max(0, beyond))]
  const result = emit.op('Conv', [signals, filters], { attributes: { group, pads, strides: [...dilations], dilations: [...strides] } })
  // Elements at the end that are in no window make places that the kernel does not have.
  const cut = emit.op('Slice', [result, emit.ints(kernel.map(() => 0)), emit.ints(kernel), emit.ints(kernel.map((_, axis) => axis + 2))])
  return emit.op('Transpose', [cut], { attributes: { perm: [1, 0, ...kernel.map((_, axis) => axis + 2)] } })
}

/** The input with the zeros that its windows reach. */
function emitPadded(emit: Emitter, x: string, windows: Windows): string {
  const end = overhang(windows).map((over) => Math.max(0, over))
  if ([...windows.begin, ...end].every((pad) => pad === 0)) return x
  return emit.op('Pad', [x, emit.ints([0, 0, ...windows.begin, 0, 0, ...end])])
}

/** Every place in a kernel, the last axis fastest. */
function placesOf(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>((places, length) => places.flatMap((place) => Array.from({ length }, (_, at) => [...place, at])), [[]])
}

function size(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1)
}
