// A whole training from settings: rows are held out, a student is built, a teacher answers, and the model that is best on
// the held-out rows comes back.
import type { CurvePoint, Evaluation } from '../measurements.js'
import { encodeModel } from '../onnx/proto.js'
import { openSession } from '../runtime/session.js'
import { elementCount, type Tensor } from '../tensor/tensor.js'
import { withAugmentation } from './augment.js'
import { holdOutRows, subset, type Dataset } from './dataset.js'
import { evaluate, labelledRows, LABELS } from './evaluate.js'
import { joinFeatures, type Features } from './features.js'
import { fit, type FitNews, type FitState } from './fit.js'
import { featurePairsOf } from './losses/table.js'
import type { NetworkSpec } from './networks.js'
import { optionError } from './options.js'
import { trainableParameters } from './parameters.js'
import { parallelEngine, type OpenGroup } from './parallel/parallel-engine.js'
import { pupilOf, type GivenStudent, type Pupil } from './pupil.js'
import { scheduleOf } from './schedule.js'
import type { TrainingSettings } from './settings.js'
import { byLabels, lossFor, stepOptions, type StepSettings } from './step-settings.js'
import { withTeacher } from './teacher.js'
import type { Model } from './training-form.js'

export interface TrainingOptions {
  /** The model that is trained further, or that teaches the student. */
  model: Model
  /** Its output of scores, [rows, classes]. */
  output: string
  data: Dataset
  /** A network to build, or one that exists, whose inputs and outputs fit those of the model. */
  student?: NetworkSpec | GivenStudent
  settings: TrainingSettings
  threads: number
  /** How ranks of other machines join, where the settings name a group. */
  openGroup?: OpenGroup | undefined
  signal?: AbortSignal
  resume?: FitState
  onProgress?(news: FitNews): void
  onCheckpoint?(state: FitState): void | Promise<void>
}

export interface TrainingResult {
  model: Model
  best: CurvePoint
  curve: CurvePoint[]
  ended: 'steps' | 'patience'
  /** Weights trained. */
  parameters: number
  /** The teacher on the same held-out rows. */
  teacher?: Evaluation
}

/** @throws FlyweightError `invalid_input` for data or settings that do not fit, `invalid_model` for a model that cannot be trained */
export async function runTraining(options: TrainingOptions): Promise<TrainingResult> {
  const { settings, data, student, threads, resume, signal } = options
  if (data.rows < 2) throw optionError('/data', `got ${data.rows} rows, expected at least 2: some train, others judge`)
  const parts = holdOutRows(data.rows, settings.holdOut, settings.seed)
  const first = await data.read([0], 0)
  if (student === undefined && settings.loss?.kind === 'distillation')
    throw optionError('/loss/kind', 'got distillation, which needs a student that learns from the model; expected a loss by labels')
  let teacher = student === undefined ? undefined : await openSession(encodeModel(options.model), { threads })
  try {
    const pupil = await pupilOf(options, { first, teacher })
    const { output, input } = pupil
    const features = teacher === undefined ? undefined : await featuresOf(options, pupil, first)
    if (features !== undefined) {
      const telling = await openSession(encodeModel(features.teacher), { threads })
      await teacher?.release()
      teacher = telling
    }
    const told = [options.output, ...(features?.outputs ?? []).filter((name) => name !== options.output)]
    const augmented = settings.augment.shift > 0 || settings.augment.mirror
    const training = subset(data, parts.train)
    const shown = augmented ? withAugmentation(training, input, settings.augment, settings.seed) : training
    const answered = (of: Dataset, keep: boolean) => (teacher === undefined ? of : withTeacher(of, teacher, { outputs: told, keep }))
    const step: StepSettings = {
      settings,
      prediction: output,
      labelled: LABELS in first,
      ...(student === undefined ? {} : { teacher: options.output }),
      pairs: features?.pairs ?? [],
    }
    const trained = features?.student ?? pupil.model
    const batchSize = Math.min(settings.batchSize, training.rows)
    const steps = Math.max(1, Math.round((settings.epochs * training.rows) / batchSize))
    const schedule = scheduleOf(settings.schedule)
    const heldOut = answered(subset(data, parts.heldOut), true)
    const fitted = await fit({
      model: trained,
      data: answered(shown, !augmented),
      heldOut,
      output,
      ...stepOptions(step),
      ...(byLabels(step) ? { counted: labelledRows } : {}),
      learningRate: (done) => settings.learningRate * schedule(done, steps),
      batchSize,
      parts: settings.parts,
      steps,
      seed: settings.seed,
      threads,
      freeze: settings.freeze,
      ...(settings.patience === 0 ? {} : { patience: settings.patience }),
      ...(resume === undefined ? {} : { resume }),
      ...parallelEngine({ model: trained, step, threads, openGroup: options.openGroup }),
      ...(signal === undefined ? {} : { signal }),
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
      ...(options.onCheckpoint === undefined ? {} : { onCheckpoint: options.onCheckpoint }),
    })
    const result = features === undefined ? fitted : { ...fitted, model: features.strip(fitted.model) }
    const judged =
      teacher === undefined || !(LABELS in first)
        ? undefined
        : await evaluate({
            model: options.model,
            data: heldOut,
            loss: lossFor({ settings: { ...settings, loss: { kind: 'cross-entropy' } }, prediction: options.output, labelled: true }),
            batchSize,
            output: options.output,
            counted: labelledRows,
            threads,
            signal,
          })
    return { ...result, parameters: weightsOf(result.model), ...(judged === undefined ? {} : { teacher: judged }) }
  } finally {
    await teacher?.release()
  }
}

/** What inside the two is compared, where the loss asks for it. */
async function featuresOf(
  { model: teacher, settings }: TrainingOptions,
  { model: student }: Pupil,
  first: Readonly<Record<string, Tensor>>,
): Promise<Features | undefined> {
  const pairs = featurePairsOf(settings.loss)
  return pairs.length === 0 ? undefined : joinFeatures({ student, teacher }, { pairs, feeds: first, seed: settings.seed })
}

function weightsOf(model: Model): number {
  const trained = new Set(trainableParameters(model))
  return model.graph.initializer.filter(({ name }) => trained.has(name)).reduce((sum, { dims }) => sum + elementCount(dims.map(Number)), 0)
}
