// Training that keeps a pruned model pruned: weights that are zero at the start stay zero; as Han et al., "Learning both
// Weights and Connections for Efficient Neural Networks" (2015), train what pruning left.
import { tensorValues } from '../onnx/builder.js'
import type { Optimizer } from './optimizers/optimizer.js'
import type { Model } from './training-form.js'

/** By name, for each of a model's float32 initializers named that has zeros, 1 where it is zero and 0 elsewhere. */
export function zerosOf({ graph }: Model, names: ReadonlySet<string>): Map<string, Uint8Array<ArrayBuffer>> {
  const zeros = new Map<string, Uint8Array<ArrayBuffer>>()
  for (const tensor of graph.initializer) {
    if (!names.has(tensor.name)) continue
    const own = Uint8Array.from(tensorValues(tensor).data as Float32Array, (value) => Number(value === 0))
    if (own.includes(1)) zeros.set(tensor.name, own)
  }
  return zeros
}

/**
 * The optimizer, to which the gradients of those elements are zero: 1 pass over memory. Elements that are zero so stay
 * zero, as no optimizer moves what has no gradient and no size.
 */
export function withZerosKept(optimizer: Optimizer, zeros: ReadonlyMap<string, Uint8Array>): Optimizer {
  if (zeros.size === 0) return optimizer
  return {
    ...optimizer,
    emit(emit, inputs) {
      const kept = new Uint8Array(inputs.layout.reduce((sum, { count }) => sum + count, 0))
      for (const { name, offset } of inputs.layout) kept.set(zeros.get(name) ?? [], offset)
      const mask = emit.tensor('bool', [kept.length], kept, 'zeros')
      return optimizer.emit(emit, { ...inputs, gradients: emit.op('Where', [mask, emit.scalar(0), inputs.gradients]) })
    },
  }
}
