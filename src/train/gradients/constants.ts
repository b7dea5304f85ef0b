// Constants that gradients write, in the type that a node computes in, and those that they read.
import { float32FromFloat16 } from '../../tensor/float16.js'
import { dtypes } from '../../tensor/tensor.js'
import type { GradientContext } from '../gradient.js'

/** A constant of the type of the node's first output; types other than float32 are cast to when the graph is loaded. */
export function emitConstant({ node, emit, dtype }: GradientContext, dims: readonly number[], values: readonly number[]): string {
  const type = dtype(node.output[0] as string)
  const tensor = emit.tensor('float32', dims, values)
  return type === 'float32' ? tensor : emit.op('Cast', [tensor], { attributes: { to: dtypes[type].onnx } })
}

/** Zeros of the type of the node's first output. */
export function emitZeros({ emit, scalar }: GradientContext, dims: readonly number[]): string {
  return emit.op('Expand', [scalar(0), emit.ints(dims)])
}

/** Values of an input; undefined where it is absent, or computed or trained. */
export function storedNumbers({ node, constant }: GradientContext, index: number): number[] | undefined {
  const stored = constant(node.input[index] ?? '')
  if (stored === undefined || stored.dtype === 'bfloat16') return undefined
  if (stored.dtype === 'float16') return Array.from(float32FromFloat16(stored.data as Uint16Array))
  return Array.from(stored.data as ArrayLike<number | bigint>, Number)
}

/**
 * Values of an integer input that must be constant; undefined where it is absent. Refuses the node where it is computed:
 * `name` is what the operator calls the input.
 */
export function storedInts(context: GradientContext, index: number, name: string): number[] | undefined {
  const input = context.node.input[index]
  if (input === undefined || input === '') return undefined
  return storedNumbers(context, index) ?? context.refuse(`its ${name} are computed, expected constant ones`)
}
