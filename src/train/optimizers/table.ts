// The optimizers that exist, by the names that options give them.
import { Type, type Static } from 'typebox'
import { completeOptions } from '../options.js'
import { adam, AdamSchema } from './adam.js'
import { adamW, AdamWSchema } from './adamw.js'
import { lamb, LambSchema } from './lamb.js'
import type { Optimizer } from './optimizer.js'
import { sgd, SgdSchema } from './sgd.js'

const schemas = { sgd: SgdSchema, adam: AdamSchema, adamw: AdamWSchema, lamb: LambSchema }

export const OptimizerSchema = Type.Union(Object.values(schemas), { description: 'How parameters follow gradients' })

type OptimizerOptions = Static<(typeof schemas)[keyof typeof schemas]>

/**
 * @param options as OptimizerSchema says; what is left out gets its default
 * @throws FlyweightError `invalid_input` that names the field, for options that do not fit
 */
export function optimizerOf(options: Partial<OptimizerOptions>, pointer = '/optimizer'): Optimizer {
  const complete = completeOptions(schemas, options, pointer)
  switch (complete.kind) {
    case 'sgd':
      return sgd(complete)
    case 'adam':
      return adam(complete)
    case 'adamw':
      return adamW(complete)
    case 'lamb':
      return lamb(complete)
  }
}
