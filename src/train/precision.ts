// The precision that steps are computed in, as settings name it.
import { Type, type Static } from 'typebox'
import type { AutocastLevel } from './autocast.js'
import { LossScaleSchema, type LossScaleOptions } from './loss-scale.js'
import { completeOptions } from './options.js'

const schemas = {
  float32: Type.Object({ kind: Type.Literal('float32') }, { additionalProperties: false }),
  mixed: Type.Object(
    {
      kind: Type.Literal('mixed'),
      level: Type.Enum(['products', 'graph'], {
        default: 'products',
        description:
          'What is computed in float16: matrix products and convolutions only, or also the elementwise, shape and pooling operators behind them (similar to the levels O1 and O2 of other frameworks)',
      }),
      lossScale: Type.Object(LossScaleSchema.properties, { ...LossScaleSchema, default: {} }),
    },
    { additionalProperties: false },
  ),
}

export const PrecisionSchema = Type.Union(Object.values(schemas), {
  description: 'Precision of forward and backward pass; parameters, optimizer and the trained model are always float32',
})

export type PrecisionOptions = Partial<Static<(typeof schemas)[keyof typeof schemas]>>

/**
 * What a trainer needs for a precision: nothing for float32.
 * @param options as PrecisionSchema says; what is left out gets its default
 * @throws FlyweightError `invalid_input` that names the field, for options that do not fit
 */
export function precisionOf(options: PrecisionOptions, pointer = '/precision'): { autocast?: AutocastLevel; lossScale?: LossScaleOptions } {
  const complete = completeOptions(schemas, options, pointer)
  return complete.kind === 'float32' ? {} : { autocast: complete.level, lossScale: complete.lossScale }
}
