// A whole training from settings: rows are held out, a student is built, a teacher answers, and the model that is best on
// the held-out rows comes back.
import type { CurvePoint, Evaluation } from '../measurements.js'
import { encodeModel } from '../onnx/proto.js'
import { openSession, type Session } from '../runtime/session.js'
import { elementCount, type Tensor } from '../tensor/tensor.js'
import { withAugmentation } from './augment.js'
import { holdOutRows, subset, type Dataset } from './dataset.js'
import { evaluate, LABELS } from './evaluate.js'
import { fit, type FitNews, type FitState } from './fit.js'
import { emitClip } from './gradient-clipping.js'
import { lossOf, type LossOptions } from './losses/table.js'
import { withMovingAverage } from './moving-average.js'
import { buildNetwork, type NetworkSpec } from './networks.js'
import { optimizerOf } from './optimizers/table.js'
import { optionError } from './options.js'
import { trainableParameters } from './parameters.js'
import { precisionOf } from './precision.js'
import { scheduleOf } from './schedule.js'
import type { TrainingSettings } from './settings.js'
import type { EmitLoss } from './step.js'
import { teacherColumn, withTeacher } from './teacher.js'
import type { Model } from './training-form.js'

export interface TrainingOptions {
  /** The model that is trained further, or that teaches the student. */
  model: Model
  /** Its output of scores, [rows, classes]. */
  output: string
  data: Dataset
  student?: NetworkSpec
  settings: TrainingSettings
  threads: number
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
  const teacher = student === undefined ? undefined : await openSession(encodeModel(options.model), { threads })
  try {
    const { model, output, input } = await pupil(options, { first, teacher })
    const augmented = settings.augment.shift > 0 || settings.augment.mirror
    const training = subset(data, parts.train)
    const shown = augmented ? withAugmentation(training, input, settings.augment, settings.seed) : training
    const answered = (of: Dataset, keep: boolean) => (teacher === undefined ? of : withTeacher(of, teacher, { outputs: [options.output], keep }))
    const loss = lossFor(options, { output, labelled: LABELS in first })
    const batchSize = Math.min(settings.batchSize, training.rows)
    const steps = Math.max(1, Math.round((settings.epochs * training.rows) / batchSize))
    const optimizer = optimizerOf(settings.optimizer)
    const schedule = scheduleOf(settings.schedule)
    const heldOut = answered(subset(data, parts.heldOut), true)
    const result = await fit({
      model,
      data: answered(shown, !augmented),
      heldOut,
      output,
      loss,
      optimizer: settings.average === 0 ? optimizer : withMovingAverage(optimizer, settings.average),
      learningRate: (step) => settings.learningRate * schedule(step, steps),
      batchSize,
      parts: settings.parts,
      steps,
      seed: settings.seed,
      threads,
      freeze: settings.freeze,
      ...(settings.precision === undefined ? {} : precisionOf(settings.precision)),
      ...(settings.clipNorm === 0 ? {} : { clip: (emit, gradients) => emitClip(emit, gradients, settings.clipNorm).gradients }),
      ...(settings.patience === 0 ? {} : { patience: settings.patience }),
      ...(resume === undefined ? {} : { resume }),
      ...(signal === undefined ? {} : { signal }),
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
      ...(options.onCheckpoint === undefined ? {} : { onCheckpoint: options.onCheckpoint }),
    })
    const judged =
      teacher === undefined || !(LABELS in first)
        ? undefined
        : await evaluate({
            model: options.model,
            data: heldOut,
            loss: lossFor({ ...options, settings: { ...settings, loss: { kind: 'cross-entropy' } } }, { output: options.output, labelled: true }),
            batchSize,
            output: options.output,
            threads,
            signal,
          })
    return { ...result, parameters: weightsOf(result.model), ...(judged === undefined ? {} : { teacher: judged }) }
  } finally {
    await teacher?.release()
  }
}

interface Pupil {
  model: Model
  output: string
  /** Its first input, which augmentation changes. */
  input: string
}

/** The model itself, or a new student with the interface of the teacher. */
async function pupil(
  { model, output, student, settings }: TrainingOptions,
  { first, teacher }: { first: Record<string, Tensor>; teacher: Session | undefined },
): Promise<Pupil> {
  const names = model.graph.input.map(({ name }) => name).filter((name) => name in first)
  const [input = ''] = names
  if (student === undefined || teacher === undefined) return { model, output, input }
  const { dtype, dims } = first[input] as Tensor
  if (names.length !== 1 || dtype !== 'float32') {
    throw optionError(
      '/student',
      `students that are built take one float32 input, the teacher takes ${names.map((name) => `${first[name]?.dtype} "${name}"`).join(', ')}`,
    )
  }
  const { [output]: scores } = await teacher.run({ [input]: first[input] as Tensor }, [output])
  const classes = (scores as Tensor).dims
  if (classes.length !== 2)
    throw optionError(
      '/student',
      `students that are built give scores [rows, classes], the teacher's output "${output}" is [${classes.join(', ')}] for one row`,
    )
  return {
    model: buildNetwork(student, { input: { name: input, dims: dims.slice(1) }, output: { name: output, classes: classes[1] as number } }, settings.seed),
    output,
    input,
  }
}

function lossFor({ settings, student, output: taught }: TrainingOptions, { output, labelled }: { output: string; labelled: boolean }): EmitLoss {
  const options: LossOptions = settings.loss ?? { kind: student === undefined ? 'cross-entropy' : 'distillation' }
  const loss = lossOf(options)
  const byLabels = options.kind === 'cross-entropy'
  if (!labelled && (byLabels || student === undefined))
    throw optionError('/data', `its rows have no labels, which ${student === undefined ? 'training without a teacher' : 'the loss cross-entropy'} needs`)
  const target = byLabels || student === undefined ? LABELS : teacherColumn(taught)
  return (emit, tensors) => loss(emit, { prediction: output, target, tensors, ...(labelled && !byLabels ? { labels: LABELS } : {}) })
}

function weightsOf(model: Model): number {
  const trained = new Set(trainableParameters(model))
  return model.graph.initializer.filter(({ name }) => trained.has(name)).reduce((sum, { dims }) => sum + elementCount(dims.map(Number)), 0)
}
