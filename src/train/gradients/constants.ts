// Constant tensors in the type that a node computes in.
import { dtypes } from '../../tensor/tensor.js'
import type { GradientContext } from '../gradient.js'

/** A constant of the type of the node's first output; types other than float32 are cast to when the graph is loaded. */
export function emitConstant({ node, emit, dtype }: GradientContext, dims: readonly number[], values: readonly number[]): string {
  const type = dtype(node.output[0] as string)
  const tensor = emit.tensor('float32', dims, values)
  return type === 'float32' ? tensor : emit.op('Cast', [tensor], { attributes: { to: dtypes[type].onnx } })
}
