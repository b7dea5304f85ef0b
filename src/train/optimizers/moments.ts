// The moments of gradients that Adam, AdamW and LAMB step along: Kingma and Ba, "Adam: A Method for Stochastic
// Optimization" (2015), algorithm 1, arranged for few passes over memory. The moments are kept divided by 1 − β, so that
// a gradient enters them as it is; that factor, like the bias correction, goes into scalars.
import { Type } from 'typebox'
import type { Emitter } from '../../onnx/emitter.js'
import type { UpdateInputs } from './optimizer.js'

/** The options that the three have in common. */
export const momentOptions = {
  beta1: Type.Number({ default: 0.9, minimum: 0, exclusiveMaximum: 1, description: 'Decay of the mean of gradients' }),
  beta2: Type.Number({ default: 0.999, minimum: 0, exclusiveMaximum: 1, description: 'Decay of the mean of their squares' }),
}

export interface MomentOptions {
  beta1: number
  beta2: number
  epsilon: number
}

export const MOMENTS = ['moment1', 'moment2'] as const

export interface Moments {
  /** The new slots. */
  slots: [string, string]
  /** m / (√v + ε), but for a positive factor: the corrected direction is `scale` · `direction`. */
  direction: string
  /** Scalar. */
  scale: string
}

/** Emits the moments with `gradients` and the direction that they give: 8 passes over memory. */
export function emitMoments(emit: Emitter, { gradients, step, slots }: UpdateInputs, { beta1, beta2, epsilon }: MomentOptions): Moments {
  const [before1, before2] = slots as [string, string]
  const moment1 = emit.op('Add', [emit.op('Mul', [before1, emit.scalar(beta1)]), gradients])
  const moment2 = emit.op('Add', [emit.op('Mul', [before2, emit.scalar(beta2)]), emit.op('Mul', [gradients, gradients])])
  // With the kept V = v/(1 − β₂): √v̂ + ε = (√V + ε·r)/r for r = √((1 − β₂ᵗ)/(1 − β₂)).
  const root = emit.op('Sqrt', [emit.op('Mul', [correction(emit, step, beta2), emit.scalar(1 / (1 - beta2))])])
  const spread = emit.op('Add', [emit.op('Sqrt', [moment2]), emit.op('Mul', [root, emit.scalar(epsilon)])])
  const scale = emit.op('Div', [emit.op('Mul', [root, emit.scalar(1 - beta1)]), correction(emit, step, beta1)])
  return { slots: [moment1, moment2], direction: emit.op('Div', [moment1, spread]), scale }
}

/**
 * 1 − βᵗ. In float32 the difference itself would lose four digits at β = 0.999 and t = 1; 1 − e⁻²ˣ = 2 tanh x/(1 + tanh x)
 * loses none.
 */
function correction(emit: Emitter, step: string, beta: number): string {
  if (beta === 0) return emit.scalar(1)
  const tanh = emit.op('Tanh', [emit.op('Mul', [step, emit.scalar(-Math.log(beta) / 2)])])
  return emit.op('Div', [emit.op('Mul', [tanh, emit.scalar(2)]), emit.op('Add', [tanh, emit.scalar(1)])])
}
