// What a step is made of, from settings: the same for a training in one process and for each rank of one that is divided.
import { emitClip } from './gradient-clipping.js'
import { LABELS } from './evaluate.js'
import { withPairs, type ComparedPair } from './losses/feature-pairs.js'
import { lossOf, type LossOptions } from './losses/table.js'
import { withMovingAverage } from './moving-average.js'
import { optimizerOf } from './optimizers/table.js'
import { optionError } from './options.js'
import { precisionOf } from './precision.js'
import type { TrainingSettings } from './settings.js'
import type { EmitLoss } from './step.js'
import { teacherColumn } from './teacher.js'
import type { TrainOptions } from './trainer.js'

/** Plain data, from which the functions that emit a step are made. */
export interface StepSettings {
  settings: TrainingSettings
  /** The model's output of scores. */
  prediction: string
  /** The teacher's output of them; undefined where there is no teacher. */
  teacher?: string
  /** Whether rows have labels. */
  labelled: boolean
  /** Inner tensors that the loss compares, too. */
  pairs?: readonly ComparedPair[]
}

/** @throws FlyweightError `invalid_input` for a loss that needs labels where there are none */
export function stepOptions(step: StepSettings): Pick<TrainOptions, 'loss' | 'optimizer' | 'clip' | 'autocast' | 'lossScale'> {
  const { settings } = step
  const optimizer = optimizerOf(settings.optimizer)
  return {
    loss: lossFor(step),
    optimizer: settings.average === 0 ? optimizer : withMovingAverage(optimizer, settings.average),
    clip: settings.clipNorm === 0 ? undefined : (emit, gradients, norm) => emitClip(emit, gradients, settings.clipNorm, norm).gradients,
    ...(settings.precision === undefined ? {} : precisionOf(settings.precision)),
  }
}

/** @throws FlyweightError `invalid_input` for a loss that needs labels where there are none */
export function lossFor(step: StepSettings): EmitLoss {
  const { teacher, prediction, labelled, pairs = [] } = step
  const loss = lossOf(optionsOf(step))
  const labels = byLabels(step)
  if (!labelled && (labels || teacher === undefined))
    throw optionError('/data', `its rows have no labels, which ${teacher === undefined ? 'training without a teacher' : 'the loss cross-entropy'} needs`)
  const target = labels || teacher === undefined ? LABELS : teacherColumn(teacher)
  return withPairs((emit, tensors) => loss(emit, { prediction, target, tensors, ...(labelled && !labels ? { labels: LABELS } : {}) }), pairs)
}

/** Whether the loss is a mean over rows with labels. */
export function byLabels(step: StepSettings): boolean {
  return optionsOf(step).kind === 'cross-entropy'
}

function optionsOf({ settings, teacher }: StepSettings): LossOptions {
  return settings.loss ?? { kind: teacher === undefined ? 'cross-entropy' : 'distillation' }
}
