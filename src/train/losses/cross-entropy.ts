// Cross-entropy with class indices: the mean over labelled rows of −log p(label). Smoothed labels give a share of
// their weight to all classes alike; Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7.
import { Type, type Static } from 'typebox'
import type { Emitter } from '../../onnx/emitter.js'
import { emitCast, emitLogProbabilities, expectDims, scoreForm, type Float, type Loss, type LossInputs } from './loss.js'

export const CrossEntropySchema = Type.Object(
  {
    kind: Type.Literal('cross-entropy'),
    labelSmoothing: Type.Number({ default: 0, minimum: 0, exclusiveMaximum: 1, description: 'Share of a label’s weight that all classes get alike' }),
    predictions: scoreForm('What the model gives: scores before the softmax, or probabilities'),
  },
  { additionalProperties: false },
)

/**
 * Of scores [rows, …, classes] and class indices [rows, …] (int32 or int64). A negative index marks a row without label,
 * which does not count; where none has one, the loss is zero. An index past the last class finds none: readers of data check.
 */
export function crossEntropy({ labelSmoothing, predictions }: Omit<Static<typeof CrossEntropySchema>, 'kind'>): Loss {
  return (emit, inputs) => {
    const { prediction, tensors } = inputs
    const logProbabilities = emitLogProbabilities(emit, prediction, { form: predictions, dtype: tensors.dtype(prediction) as Float })
    return emitLabelLoss(emit, logProbabilities, { ...inputs, labelSmoothing })
  }
}

/** Cross-entropy from log-probabilities; `target` has the class indices. */
function emitLabelLoss(
  emit: Emitter,
  logProbabilities: string,
  { prediction, target, tensors, labelSmoothing }: LossInputs & { labelSmoothing: number },
): string {
  const dims = tensors.dims(prediction)
  const classes = dims.at(-1) as number
  const dtype = tensors.dtype(prediction) as Float
  expectDims(tensors, target, dims.slice(0, -1), `one index for each row of "${prediction}"`)
  // GPUs compare int32 natively, but not int64.
  const labels = emitCast(emit, target, { from: tensors.dtype(target), to: 'int32' })
  const last = emit.ints([-1])
  const zero = emit.scalar(0, dtype)
  const sum = (tensor: string) => emit.op('ReduceSum', [tensor], { attributes: { keepdims: 0 } })
  const numbers = emit.tensor(
    'int32',
    [classes],
    Int32Array.from({ length: classes }, (_, index) => index),
  )
  const isLabel = emit.op('Equal', [emit.op('Unsqueeze', [labels, last]), numbers])
  const labelled = emit.op('GreaterOrEqual', [labels, emit.scalar(0, 'int32')])
  const count = sum(emitCast(emit, labelled, { from: 'bool', to: dtype }))
  const share = (weight: number) => emit.op('Div', [emit.scalar(-weight, dtype), emit.op('Max', [count, emit.scalar(1, dtype)])])
  const hard = emit.op('Mul', [sum(emit.op('Where', [isLabel, logProbabilities, zero])), share(1 - labelSmoothing)])
  if (labelSmoothing === 0) return hard
  const even = emit.op('ReduceMean', [logProbabilities, last], { attributes: { keepdims: 0 } })
  const soft = emit.op('Mul', [sum(emit.op('Where', [labelled, even, zero])), share(labelSmoothing)])
  return emit.op('Add', [hard, soft])
}
