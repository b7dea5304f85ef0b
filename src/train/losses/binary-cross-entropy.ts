// Binary cross-entropy on logits, the mean over all elements: each is a yes or no of its own, as for several labels a row.
import { Type } from 'typebox'
import { emitMean, targetLike, type Loss } from './loss.js'

export const BinaryCrossEntropySchema = Type.Object({ kind: Type.Literal('binary-cross-entropy') }, { additionalProperties: false })

/** Of logits and targets in [0, 1] of one shape. softplus(x) − x·y is −y·log σ(x) − (1 − y)·log(1 − σ(x)) without a logarithm of 0. */
export const binaryCrossEntropy: Loss = (emit, inputs) => {
  const { prediction } = inputs
  const agreed = emit.op('Mul', [prediction, targetLike(emit, inputs)])
  return emitMean(emit, emit.op('Sub', [emit.op('Softplus', [prediction]), agreed]))
}
