// The losses that exist, by the names that options give them.
import { Type, type Static } from 'typebox'
import { completeOptions } from '../options.js'
import { binaryCrossEntropy, BinaryCrossEntropySchema } from './binary-cross-entropy.js'
import { crossEntropy, CrossEntropySchema } from './cross-entropy.js'
import { MeanAbsoluteErrorSchema, meanAbsoluteError, meanSquaredError, MeanSquaredErrorSchema } from './differences.js'
import { distillation, DistillationSchema } from './distillation.js'
import { divergence, DivergenceSchema } from './divergence.js'
import { feature, FeatureSchema } from './feature.js'
import type { FeaturePair } from './feature-pairs.js'
import type { Loss } from './loss.js'

const schemas = {
  'cross-entropy': CrossEntropySchema,
  'binary-cross-entropy': BinaryCrossEntropySchema,
  mse: MeanSquaredErrorSchema,
  l1: MeanAbsoluteErrorSchema,
  kl: DivergenceSchema,
  distillation: DistillationSchema,
  feature: FeatureSchema,
}

export const LossSchema = Type.Union(Object.values(schemas), { description: 'What training makes small' })

export type LossOptions = Partial<Static<(typeof schemas)[keyof typeof schemas]>>

/** Tensors inside student and teacher that a loss compares, with what is left out at its default. */
export function featurePairsOf(options: LossOptions | undefined, pointer = '/loss'): FeaturePair[] {
  const complete = options === undefined ? undefined : completeOptions(schemas, options, pointer)
  return complete?.kind === 'distillation' ? complete.features : []
}

/**
 * @param options as LossSchema says; what is left out gets its default
 * @throws FlyweightError `invalid_input` that names the field, for options that do not fit
 */
export function lossOf(options: LossOptions, pointer = '/loss'): Loss {
  const complete = completeOptions(schemas, options, pointer)
  switch (complete.kind) {
    case 'cross-entropy':
      return crossEntropy(complete)
    case 'binary-cross-entropy':
      return binaryCrossEntropy
    case 'mse':
      return meanSquaredError
    case 'l1':
      return meanAbsoluteError
    case 'kl':
      return divergence(complete)
    case 'distillation':
      return distillation(complete)
    case 'feature':
      return feature(complete)
  }
}
