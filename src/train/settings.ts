// How a model is trained, as JSON: what the training routes and the command line take.
import { Type, type Static } from 'typebox'
import { AugmentSchema } from './augment.js'
import { LossSchema, lossOf, type LossOptions } from './losses/table.js'
import { completeObject } from './options.js'
import { OptimizerSchema, optimizerOf } from './optimizers/table.js'
import { PrecisionSchema, precisionOf, type PrecisionOptions } from './precision.js'
import { checkParallel, ParallelSchema } from './parallel/parallel-settings.js'
import { ScheduleSchema, scheduleOf } from './schedule.js'

export const SettingsSchema = Type.Object(
  {
    epochs: Type.Number({ default: 10, exclusiveMinimum: 0, maximum: 100_000, description: 'How often each row is seen' }),
    batchSize: Type.Integer({ default: 64, minimum: 1, maximum: 65_536, description: 'Rows of one step' }),
    parts: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 65_536,
      description: 'Parts that a batch is computed in, one after the other, their gradients averaged: takes less memory; divides batchSize',
    }),
    optimizer: Type.Optional(OptimizerSchema),
    learningRate: Type.Number({ default: 0.001, exclusiveMinimum: 0, maximum: 1000, description: 'The highest of the schedule' }),
    schedule: Type.Optional(ScheduleSchema),
    clipNorm: Type.Number({ default: 0, minimum: 0, description: 'Norm that the gradient of all parameters has at most; 0: as it is' }),
    average: Type.Number({
      default: 0,
      minimum: 0,
      exclusiveMaximum: 1,
      description: 'Decay of the average over the parameters of all steps, which is the model then; 0: none',
    }),
    holdOut: Type.Number({ default: 0.1, exclusiveMinimum: 0, exclusiveMaximum: 1, description: 'Share of the rows that only judge' }),
    patience: Type.Integer({ default: 0, minimum: 0, maximum: 100_000, description: 'Epochs without a better model after which training ends; 0: never' }),
    freeze: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of weights that stay as they are; `*` stands for any part' }),
    augment: Type.Object(AugmentSchema.properties, { ...AugmentSchema, default: {} }),
    loss: Type.Optional(LossSchema),
    precision: Type.Optional(PrecisionSchema),
    parallel: Type.Object(ParallelSchema.properties, { ...ParallelSchema, default: {} }),
    seed: Type.Integer({ default: 0, minimum: 0, maximum: 2 ** 32 - 1, description: 'For the order of rows, the held-out ones, new weights and augmentation' }),
  },
  { additionalProperties: false },
)

type Settings = Static<typeof SettingsSchema>

export interface TrainingSettings extends Omit<Settings, 'optimizer' | 'schedule' | 'loss' | 'precision'> {
  optimizer: NonNullable<Settings['optimizer']>
  schedule: NonNullable<Settings['schedule']>
  /** Default: cross-entropy, and distillation with a teacher. */
  loss?: LossOptions
  /** Default: float32. */
  precision?: PrecisionOptions
}

const DEFAULT_OPTIMIZER = { kind: 'adamw' }
const DEFAULT_SCHEDULE = { kind: 'cosine' }
/** Checked by the parts that know them. */
const unchecked = Type.Optional(Type.Unknown())
const BY_KIND = { optimizer: unchecked, schedule: unchecked, loss: unchecked, precision: unchecked }
const FlatSchema = Type.Object({ ...SettingsSchema.properties, ...BY_KIND }, { additionalProperties: false })

/**
 * Settings with what is left out at its default.
 * @throws FlyweightError `invalid_input` that names the field, for settings that do not fit
 */
export function completeSettings(given: unknown, pointer = '/training'): TrainingSettings {
  const complete = completeObject(FlatSchema, given, pointer)
  const optimizer = (complete.optimizer ?? DEFAULT_OPTIMIZER) as TrainingSettings['optimizer']
  const schedule = (complete.schedule ?? DEFAULT_SCHEDULE) as TrainingSettings['schedule']
  const precision = complete.precision as PrecisionOptions | undefined
  const loss = complete.loss as LossOptions | undefined
  const { byTensor = false } = optimizerOf(optimizer, `${pointer}/optimizer`)
  scheduleOf(schedule, `${pointer}/schedule`)
  if (loss !== undefined) lossOf(loss, `${pointer}/loss`)
  if (precision !== undefined) precisionOf(precision, `${pointer}/precision`)
  checkParallel(complete.parallel, { byTensor, parts: complete.parts, pointer: `${pointer}/parallel` })
  return { ...complete, optimizer, schedule, ...(loss === undefined ? {} : { loss }), ...(precision === undefined ? {} : { precision }) } as TrainingSettings
}
