// Broadcasting undone: a gradient of the shape of a result becomes one of the shape of the operand that was
// stretched to it, by sums over the axes along which it was stretched.
import type { Emitter } from '../../onnx/emitter.js'

/** Emits `gradient`, of shape `from`, summed down to shape `to`, which broadcasts to `from` as ONNX and NumPy have it. */
export function emitSumTo(emit: Emitter, gradient: string, from: readonly number[], to: readonly number[]): string {
  const lead = from.length - to.length
  const axes = from.flatMap((size, axis) => (axis < lead || (to[axis - lead] === 1 && size !== 1) ? [axis] : []))
  const summed = axes.length === 0 ? gradient : emit.op('ReduceSum', [gradient, emit.ints(axes)], { attributes: { keepdims: 1 } })
  return lead === 0 ? summed : emit.op('Reshape', [summed, emit.ints(to)])
}
