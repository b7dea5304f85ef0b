// AdamW: Adam whose weight decay shrinks the parameters beside the moments; Loshchilov and Hutter, "Decoupled Weight
// Decay Regularization" (2019), by the formulas of PyTorch's AdamW.
import { Type, type Static } from 'typebox'
import { emitMoments, momentOptions, MOMENTS } from './moments.js'
import type { Optimizer } from './optimizer.js'

export const AdamWSchema = Type.Object(
  {
    kind: Type.Literal('adamw'),
    ...momentOptions,
    epsilon: Type.Number({ default: 1e-8, exclusiveMinimum: 0, description: 'Added to the root of the mean square' }),
    weightDecay: Type.Number({ default: 0.01, minimum: 0, description: 'Share of the parameters that a step takes off, times the learning rate' }),
  },
  { additionalProperties: false },
)

/** 10 passes over memory, with weight decay 11. */
export function adamW(options: Omit<Static<typeof AdamWSchema>, 'kind'>): Optimizer {
  const { weightDecay } = options
  return {
    name: 'adamw',
    slots: MOMENTS,
    emit(emit, inputs) {
      const { parameters, learningRate } = inputs
      const { slots, direction, scale } = emitMoments(emit, inputs, options)
      const rest = weightDecay === 0 ? undefined : emit.op('Sub', [emit.scalar(1), emit.op('Mul', [learningRate, emit.scalar(weightDecay)])])
      const shrunk = rest === undefined ? parameters : emit.op('Mul', [parameters, rest])
      const stride = emit.op('Mul', [learningRate, scale])
      return { parameters: emit.op('Sub', [shrunk, emit.op('Mul', [direction, stride])]), slots }
    },
  }
}
