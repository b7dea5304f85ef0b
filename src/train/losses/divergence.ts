// The Kullback-Leibler divergence of a model's distribution over classes from a given one.
import { Type, type Static } from 'typebox'
import type { Emitter } from '../../onnx/emitter.js'
import { elementCount } from '../../tensor/tensor.js'
import { emitLogProbabilities, scoreForm, targetLike, type Float, type Loss, type LossInputs, type ScoreForm } from './loss.js'

export const DivergenceSchema = Type.Object(
  {
    kind: Type.Literal('kl'),
    predictions: scoreForm('What the model gives: scores before the softmax, or probabilities'),
    targets: scoreForm('What it is compared with: scores before the softmax, or probabilities'),
  },
  { additionalProperties: false },
)

export function divergence(options: Omit<Static<typeof DivergenceSchema>, 'kind'>): Loss {
  return (emit, inputs) => emitDivergence(emit, inputs, { ...options, temperature: 1 })
}

/**
 * Emits the mean over rows of KL(softmax(target / T) ‖ softmax(prediction / T)), in nats. Both are [rows, …, classes];
 * all axes but the last are rows.
 */
export function emitDivergence(
  emit: Emitter,
  inputs: LossInputs,
  { predictions, targets, temperature }: { predictions: ScoreForm; targets: ScoreForm; temperature: number },
): string {
  const dims = inputs.tensors.dims(inputs.prediction)
  const dtype = inputs.tensors.dtype(inputs.prediction) as Float
  const wanted = emitLogProbabilities(emit, targetLike(emit, inputs), { form: targets, dtype, temperature })
  const got = emitLogProbabilities(emit, inputs.prediction, { form: predictions, dtype, temperature })
  const terms = emit.op('Mul', [emit.op('Exp', [wanted]), emit.op('Sub', [wanted, got])])
  const sum = emit.op('ReduceSum', [terms], { attributes: { keepdims: 0 } })
  return emit.op('Mul', [sum, emit.scalar(1 / elementCount(dims.slice(0, -1)), dtype)])
}
