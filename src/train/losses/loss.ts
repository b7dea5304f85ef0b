// What a loss is: a function that emits one number from a model's output and what that output should have been, made of
// operators that have gradients. Also the pieces that several losses are made of.
import { Type } from 'typebox'
import type { Emitter } from '../../onnx/emitter.js'
import { dtypes, type DType } from '../../tensor/tensor.js'
import type { Tensors } from '../gradient.js'
import { optionError } from '../options.js'

export interface LossInputs {
  /** Tensor that is trained: [rows, …]. */
  prediction: string
  /** Tensor that it is compared with: class indices, values, or what a teacher answers. */
  target: string
  /** Class indices beside a teacher's answers. */
  labels?: string | undefined
  /** Knows the shapes and types of those above. */
  tensors: Pick<Tensors, 'dims' | 'dtype'>
}

/**
 * Emits a loss and returns the name of a scalar of the prediction's type.
 * @throws FlyweightError `invalid_input` for tensors whose shapes do not fit each other
 */
export type Loss = (emit: Emitter, inputs: LossInputs) => string

export type Float = 'float32' | 'float64' | 'float16'

/** What scores over classes are given as. */
export type ScoreForm = 'logits' | 'probabilities'

export const scoreForm = (description: string) => Type.Enum(['logits', 'probabilities'], { default: 'logits', description })

/** Least probability that a logarithm is taken of. */
const LEAST = 1e-30

/**
 * Emits log softmax(scores / temperature) over the last axis; of probabilities, as if their logarithms were the scores.
 * A probability below 10⁻³⁰ counts as that, and has no gradient.
 */
export function emitLogProbabilities(
  emit: Emitter,
  scores: string,
  { form, dtype, temperature = 1 }: { form: ScoreForm; dtype: Float; temperature?: number },
): string {
  const logits = form === 'logits' ? scores : emit.op('Log', [emit.op('Max', [scores, emit.scalar(LEAST, dtype)])])
  const scaled = temperature === 1 ? logits : emit.op('Mul', [logits, emit.scalar(1 / temperature, dtype)])
  return emit.op('LogSoftmax', [scaled], { attributes: { axis: -1 } })
}

/** Emits the mean of all elements. */
export function emitMean(emit: Emitter, tensor: string): string {
  return emit.op('ReduceMean', [tensor], { attributes: { keepdims: 0 } })
}

/** Emits a tensor as one of another type; it is itself where it is of that type already. */
export function emitCast(emit: Emitter, tensor: string, { from, to }: { from: DType; to: Exclude<DType, 'string'> }): string {
  return from === to ? tensor : emit.op('Cast', [tensor], { attributes: { to: dtypes[to].onnx } })
}

/** The target in the prediction's type. Broadcasting would hide a mistake, so shapes must be equal. */
export function targetLike(emit: Emitter, { prediction, target, tensors }: LossInputs): string {
  expectDims(tensors, target, tensors.dims(prediction), `as "${prediction}" has`)
  return emitCast(emit, target, { from: tensors.dtype(target), to: tensors.dtype(prediction) as Float })
}

/** @throws FlyweightError `invalid_input` where a tensor has other dims */
export function expectDims(tensors: LossInputs['tensors'], tensor: string, expected: readonly number[], why: string): void {
  const dims = tensors.dims(tensor)
  if (dims.length === expected.length && dims.every((size, axis) => size === expected[axis])) return
  throw optionError('/loss', `"${tensor}" is [${dims.join(', ')}], expected [${expected.join(', ')}], ${why}`)
}
