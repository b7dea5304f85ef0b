// LAMB: Adam's direction, for each parameter tensor made as long as the tensor itself, for large batches; You et al.,
// "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes" (2020), algorithm 2 with φ(z) = z.
import { Type, type Static } from 'typebox'
import { emitMoments, momentOptions, MOMENTS } from './moments.js'
import type { Optimizer } from './optimizer.js'

export const LambSchema = Type.Object(
  {
    kind: Type.Literal('lamb'),
    ...momentOptions,
    epsilon: Type.Number({ default: 1e-6, exclusiveMinimum: 0, description: 'Added to the root of the mean square' }),
    weightDecay: Type.Number({ default: 0.01, minimum: 0, description: 'Added to the direction, times the parameters' }),
  },
  { additionalProperties: false },
)

/** 15 passes over memory, with weight decay 17. A tensor or direction of zeros only takes the step that Adam would. */
export function lamb(options: Omit<Static<typeof LambSchema>, 'kind'>): Optimizer {
  const { weightDecay } = options
  return {
    name: 'lamb',
    slots: MOMENTS,
    byTensor: true,
    emit(emit, inputs) {
      const { parameters, learningRate, layout } = inputs
      const { slots, direction, scale } = emitMoments(emit, inputs, options)
      // The length of the direction cancels out, so that it may stay divided by `scale`; the decay then is, too.
      const decay = weightDecay === 0 ? undefined : emit.op('Mul', [parameters, emit.op('Div', [emit.scalar(weightDecay), scale])])
      const decayed = decay === undefined ? direction : emit.op('Add', [direction, decay])
      const sizes = emit.ints(layout.map(({ count }) => count))
      const tensors = emit.ops('Split', [parameters, sizes], layout.length)
      const directions = emit.ops('Split', [decayed, sizes], layout.length)
      const length = (tensor: string) => emit.op('ReduceL2', [tensor], { attributes: { keepdims: 0 } })
      const updated = tensors.map((tensor, index) => {
        const towards = directions[index] as string
        const [own, other] = [length(tensor), length(towards)]
        const both = emit.op('Greater', [emit.op('Min', [own, other]), emit.scalar(0)])
        const trust = emit.op('Where', [both, emit.op('Div', [own, other]), scale])
        return emit.op('Sub', [tensor, emit.op('Mul', [towards, emit.op('Mul', [learningRate, trust])])])
      })
      return { parameters: emit.op('Concat', updated, { attributes: { axis: 0 } }), slots }
    },
  }
}
