// Adam, with weight decay as part of the gradient, by the formulas of PyTorch's Adam (Kingma and Ba, 2015). Decay that
// does not go through the moments is AdamW's.
import { Type, type Static } from 'typebox'
import { emitMoments, momentOptions, MOMENTS } from './moments.js'
import type { Optimizer } from './optimizer.js'

export const AdamSchema = Type.Object(
  {
    kind: Type.Literal('adam'),
    ...momentOptions,
    epsilon: Type.Number({ default: 1e-8, exclusiveMinimum: 0, description: 'Added to the root of the mean square' }),
    weightDecay: Type.Number({ default: 0, minimum: 0, description: 'Added to the gradient, times the parameters' }),
  },
  { additionalProperties: false },
)

/** 10 passes over memory, with weight decay 12. */
export function adam(options: Omit<Static<typeof AdamSchema>, 'kind'>): Optimizer {
  const { weightDecay } = options
  return {
    name: 'adam',
    slots: MOMENTS,
    emit(emit, inputs) {
      const { parameters, gradients, learningRate } = inputs
      const decayed = weightDecay === 0 ? gradients : emit.op('Add', [gradients, emit.op('Mul', [parameters, emit.scalar(weightDecay)])])
      const { slots, direction, scale } = emitMoments(emit, { ...inputs, gradients: decayed }, options)
      const stride = emit.op('Mul', [learningRate, scale])
      return { parameters: emit.op('Sub', [parameters, emit.op('Mul', [direction, stride])]), slots }
    },
  }
}
