// The exponential moving average of the parameters, which is often better than the parameters themselves; Polyak and
// Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992).
import type { Emitter } from '../onnx/emitter.js'
import type { Optimizer } from './optimizers/optimizer.js'

/** The slot that holds the average. */
export const AVERAGE = 'average'

/** The optimizer with one slot more, last, that averages the parameters it makes. */
export function withMovingAverage(optimizer: Optimizer, decay: number): Optimizer {
  return {
    name: optimizer.name,
    slots: [...optimizer.slots, AVERAGE],
    emit(emit, inputs) {
      const updated = optimizer.emit(emit, { ...inputs, slots: inputs.slots.slice(0, -1) })
      const average = inputs.slots.at(-1) as string
      return { ...updated, slots: [...updated.slots, emitMovingAverage(emit, { average, parameters: updated.parameters, step: inputs.step }, decay)] }
    },
  }
}

/**
 * Emits average + (1 − decay)·(parameters − average): 3 passes over memory. The first step's average is the parameters,
 * and early decays are smaller, (step − 1)/(step + 8) as TensorFlow has it: so the start does not stay in it for long.
 * @param inputs flat float32 vectors, and the number of this update, from 1, as a float32 scalar
 */
function emitMovingAverage(emit: Emitter, { average, parameters, step }: { average: string; parameters: string; step: string }, decay: number): string {
  const early = emit.op('Div', [emit.scalar(9), emit.op('Add', [step, emit.scalar(8)])])
  const weight = emit.op('Max', [early, emit.scalar(1 - decay)])
  return emit.op('Add', [average, emit.op('Mul', [emit.op('Sub', [parameters, average]), weight])])
}
