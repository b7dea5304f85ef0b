// Losses between tensors inside the student and tensors inside the teacher, as options and as what is emitted; which
// tensors these are, and how they become comparable, is features.ts's business.
import { Type, type Static } from 'typebox'
import type { EmitLoss } from '../step.js'
import { feature } from './feature.js'

export const FeaturePairSchema = Type.Object(
  {
    teacher: Type.String({ minLength: 1, description: 'Name of a tensor inside the teacher' }),
    student: Type.String({ minLength: 1, description: 'Name of a tensor inside the student' }),
    weight: Type.Number({ default: 1, exclusiveMinimum: 0, description: 'What the loss between them is multiplied by' }),
    kind: Type.Enum(['mse', 'cosine'], { default: 'mse', description: 'Squared differences, or one minus the cosine of each row' }),
    projection: Type.Boolean({ default: false, description: 'Learn a projection even where both have the same width' }),
  },
  { additionalProperties: false, description: 'Two tensors of [rows, channels, height, width], [rows, steps, width] or [rows, width]' },
)

export type FeaturePair = Static<typeof FeaturePairSchema>

/** Two tensors of one shape that are compared in a step. */
export interface ComparedPair {
  /** Tensor of the student: projected where it has to be. */
  prediction: string
  /** Column that holds the teacher's. */
  target: string
  weight: number
  kind: FeaturePair['kind']
}

/** A loss and those between the pairs on top of it, each by its weight. */
export function withPairs(loss: EmitLoss, pairs: readonly ComparedPair[]): EmitLoss {
  if (pairs.length === 0) return loss
  return (emit, tensors) =>
    pairs.reduce(
      (sum, { prediction, target, weight, kind }) => {
        const between = feature({ measure: kind })(emit, { prediction, target, tensors })
        return emit.op('Add', [sum, emit.op('Mul', [between, emit.scalar(weight)])])
      },
      loss(emit, tensors),
    )
}
