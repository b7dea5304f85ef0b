// Losses on values: the mean of squared or of absolute differences over all elements.
import { Type } from 'typebox'
import { emitMean, targetLike, type Loss } from './loss.js'

export const MeanSquaredErrorSchema = Type.Object({ kind: Type.Literal('mse') }, { additionalProperties: false })
export const MeanAbsoluteErrorSchema = Type.Object({ kind: Type.Literal('l1') }, { additionalProperties: false })

export const meanSquaredError: Loss = (emit, inputs) => {
  const difference = emit.op('Sub', [inputs.prediction, targetLike(emit, inputs)])
  return emitMean(emit, emit.op('Mul', [difference, difference]))
}

export const meanAbsoluteError: Loss = (emit, inputs) => emitMean(emit, emit.op('Abs', [emit.op('Sub', [inputs.prediction, targetLike(emit, inputs)])]))
