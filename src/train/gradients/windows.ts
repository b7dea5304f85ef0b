// Where the windows of a convolution or a pool lie: kernel, strides, dilations and the padding at the beginning, by
// spatial axis. What the end is padded by follows from the sizes, so that automatic padding and rounding up need no rules.
import { intsAttribute, stringAttribute } from '../../onnx/attributes.js'
import type { NodeProto } from '../../onnx/proto.js'

/** One number for each spatial axis in every list. */
export interface Windows {
  /** Sizes of what the windows are cut from. */
  input: readonly number[]
  /** How many windows there are. */
  output: readonly number[]
  kernel: readonly number[]
  strides: readonly number[]
  dilations: readonly number[]
  /** Zeros before the first element. */
  begin: readonly number[]
}

/** The windows of Conv or a pool, from the node's attributes and the sizes that the runtime made of them. */
export function windowsOf(node: NodeProto, { input, output, kernel }: Pick<Windows, 'input' | 'output' | 'kernel'>): Windows {
  const strides = intsAttribute(node, 'strides') ?? kernel.map(() => 1)
  const dilations = intsAttribute(node, 'dilations') ?? kernel.map(() => 1)
  const windows = { input, output, kernel, strides, dilations, begin: kernel.map(() => 0) }
  return { ...windows, begin: beginPads(node, overhang(windows)) }
}

/** How far the last window reaches over the end of the input; negative: so many elements at the end are in no window. */
export function overhang(windows: Windows): number[] {
  const { input, output, strides, begin } = windows
  return input.map((size, axis) => ((output[axis] as number) - 1) * (strides[axis] as number) + reach(windows, axis) - size - (begin[axis] as number))
}

/** Whether every element is in one window, as with kernels of one element or patches side by side. */
export function isTiling(windows: Windows): boolean {
  const { kernel, strides, dilations, begin } = windows
  const over = overhang(windows)
  return kernel.every((size, axis) => over[axis] === 0 && begin[axis] === 0 && size === strides[axis] && (size === 1 || dilations[axis] === 1))
}

/** Whether no element is in two windows. */
export function areApart(windows: Windows): boolean {
  return windows.strides.every((stride, axis) => reach(windows, axis) <= stride)
}

/** Elements from the first to the last of a window. */
export function reach({ kernel, dilations }: Windows, axis: number): number {
  return ((kernel[axis] as number) - 1) * (dilations[axis] as number) + 1
}

/** Padding at the beginning, as given or of automatic padding's total. */
export function beginPads(node: NodeProto, total: readonly number[]): number[] {
  const automatic = stringAttribute(node, 'auto_pad', 'NOTSET')
  if (automatic.startsWith('SAME')) return shared(total, automatic)
  const pads = automatic === 'VALID' ? undefined : intsAttribute(node, 'pads')
  return total.map((_, axis) => pads?.[axis] ?? 0)
}

/** What of a total of padding is at the beginning: an odd one is larger at the end with SAME_UPPER, else at the beginning. */
export function shared(total: readonly number[], automatic: string): number[] {
  return total.map((pad) => (automatic === 'SAME_UPPER' ? Math.floor : Math.ceil)(Math.max(0, pad) / 2))
}
