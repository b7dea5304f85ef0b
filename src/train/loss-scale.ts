// Dynamic loss scaling: small gradients do not vanish in float16 where the loss is multiplied by a large factor first.
// A step whose gradients overflow is skipped and the factor halved; after enough good steps it is doubled. Micikevicius
// et al., "Mixed Precision Training" (2018). The factor and the count of good steps are carried from step to step.
import { Type, type Static } from 'typebox'
import type { Emitter } from '../onnx/emitter.js'

export const LossScaleSchema = Type.Object(
  {
    initial: Type.Number({ default: 2 ** 16, exclusiveMinimum: 0, description: 'What the loss is multiplied by at first' }),
    growthSteps: Type.Integer({ default: 2000, minimum: 1, description: 'Steps in a row without overflow after which it is doubled' }),
  },
  { additionalProperties: false },
)

export type LossScaleOptions = Static<typeof LossScaleSchema>

/** Names of float32 scalars. */
export interface LossScaleState {
  /** What the loss is multiplied by: the seed of the backward pass. */
  scale: string
  /** Steps without overflow since it last changed. */
  goodSteps: string
}

/** Largest float32. */
const LARGEST = (2 - 2 ** -23) * 2 ** 127
/** The factor stays within these: past them it would help no gradient of float16. */
const [LEAST_SCALE, MOST_SCALE] = [2 ** -24, 2 ** 24]

/**
 * Emits whether gradients are all finite, a bool scalar, in 1 pass over memory. Their norm tells: it is infinite or no
 * number where one of them is, and neither compares as at most the largest number. (ReduceMax passes over NaN on CPUs,
 * and GPUs lack IsNaN.) Gradients longer than 10¹⁹ count as overflow, too.
 * @param gradients flat float32 vector
 * @param known a scalar in place of their norm: where they are a part of all, that of all
 */
export function emitIsFinite(emit: Emitter, gradients: string, known?: string): string {
  return emit.op('LessOrEqual', [known ?? emit.op('ReduceL2', [gradients], { attributes: { keepdims: 0 } }), emit.scalar(LARGEST)])
}

/** Emits the gradients of the loss itself from those of the scaled loss: 1 pass over memory. */
export function emitUnscaled(emit: Emitter, gradients: string, scale: string): string {
  return emit.op('Mul', [gradients, emit.op('Reciprocal', [scale])])
}

/** Emits what a step leaves of carried tensors: what it made of them, or, where gradients overflowed, what they were. */
export function emitKept(emit: Emitter, finite: string, { after, before }: { after: readonly string[]; before: readonly string[] }): string[] {
  return after.map((tensor, index) => emit.op('Where', [finite, tensor, before[index] as string]))
}

/** Emits the state that the next step starts with. */
export function emitNextScale(emit: Emitter, finite: string, { scale, goodSteps }: LossScaleState, { growthSteps }: LossScaleOptions): LossScaleState {
  const counted = emit.op('Add', [goodSteps, emit.scalar(1)])
  const grows = emit.op('GreaterOrEqual', [counted, emit.scalar(growthSteps)])
  const grown = emit.op('Where', [grows, emit.op('Min', [emit.op('Mul', [scale, emit.scalar(2)]), emit.scalar(MOST_SCALE)]), scale])
  const shrunk = emit.op('Max', [emit.op('Mul', [scale, emit.scalar(0.5)]), emit.scalar(LEAST_SCALE)])
  const zero = emit.scalar(0)
  return {
    scale: emit.op('Where', [finite, grown, shrunk]),
    goodSteps: emit.op('Where', [finite, emit.op('Where', [grows, zero, counted]), zero]),
  }
}
