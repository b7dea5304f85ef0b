// Sums at places that may coincide. By ScatterElements, which adds in order: the runtime's ScatterND loses terms where its
// threads meet at one place. It has no sums in half precision, so they are computed in single precision.
import { dtypes } from '../../tensor/tensor.js'
import type { GradientContext } from '../gradient.js'

export interface ScatterOptions {
  indices: string
  /** Of the indices' shape, and of the type of the node's first output. */
  updates: string
  /** Shape of the result. */
  dims: readonly number[]
  axis: number
}

/** Zeros with `updates` added at `indices` along an axis. */
export function emitScatterSum({ node, emit, dtype }: GradientContext, { indices, updates, dims, axis }: ScatterOptions): string {
  const type = dtype(node.output[0] as string)
  const wide = type === 'float64' ? 'float64' : 'float32'
  const cast = (tensor: string, to: typeof type) => (type === wide ? tensor : emit.op('Cast', [tensor], { attributes: { to: dtypes[to].onnx } }))
  const zeros = emit.op('Expand', [emit.scalar(0, wide), emit.ints(dims)])
  return cast(emit.op('ScatterElements', [zeros, indices, cast(updates, wide)], { attributes: { axis, reduction: 'add' } }), type)
}
