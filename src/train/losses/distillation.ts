// Distillation: a student learns the teacher's softened distribution, and the labels where there are any; Hinton,
// Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
import { Type, type Static } from 'typebox'
import { crossEntropy } from './cross-entropy.js'
import { emitDivergence } from './divergence.js'
import { FeaturePairSchema } from './feature-pairs.js'
import { scoreForm, type Float, type Loss } from './loss.js'

export const DistillationSchema = Type.Object(
  {
    kind: Type.Literal('distillation'),
    alpha: Type.Number({ default: 0.9, minimum: 0, maximum: 1, description: 'Weight of the teacher; labels have the rest' }),
    temperature: Type.Number({ default: 4, exclusiveMinimum: 0, description: 'What scores are divided by: more shows more of what the teacher thinks' }),
    predictions: scoreForm('What the student gives: scores before the softmax, or probabilities'),
    targets: scoreForm('What the teacher gives: scores before the softmax, or probabilities'),
    features: Type.Array(FeaturePairSchema, {
      default: [],
      maxItems: 64,
      description: 'Tensors inside the student that learn from tensors inside the teacher, too',
    }),
  },
  { additionalProperties: false },
)

/**
 * α·T²·KL(softmax(teacher/T) ‖ softmax(student/T)) + (1 − α)·cross-entropy(student, labels). `target` is what the teacher
 * gives. The factor T² keeps gradients as large at any temperature. Without `labels` the teacher has all the weight. What
 * `features` add needs more tensors than these two (feature-pairs.ts).
 */
export function distillation({ alpha, temperature, predictions, targets }: Omit<Static<typeof DistillationSchema>, 'kind' | 'features'>): Loss {
  return (emit, inputs) => {
    const dtype = inputs.tensors.dtype(inputs.prediction) as Float
    const { labels } = inputs
    const share = labels === undefined ? 1 : alpha
    const soft = () => {
      const divergence = emitDivergence(emit, inputs, { predictions, targets, temperature })
      return emit.op('Mul', [divergence, emit.scalar(share * temperature ** 2, dtype)])
    }
    if (labels === undefined || share === 1) return soft()
    const hard = crossEntropy({ labelSmoothing: 0, predictions })(emit, { ...inputs, target: labels })
    const weighted = emit.op('Mul', [hard, emit.scalar(1 - share, dtype)])
    return share === 0 ? weighted : emit.op('Add', [soft(), weighted])
  }
}
