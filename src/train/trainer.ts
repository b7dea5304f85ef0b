// Trains a model: feeds step engines with shuffled batches, many steps a run, and carries its state from run to run.
// What is trained by which loss is the caller's business; so is what becomes of the result.
import { byteSize } from '../tensor/tensor.js'
import type { AutocastLevel } from './autocast.js'
import { ShuffledRows, type Dataset } from './dataset.js'
import { openLoopEngine } from './loop-engine.js'
import type { LossScaleOptions } from './loss-scale.js'
import { AVERAGE } from './moving-average.js'
import type { Optimizer } from './optimizers/optimizer.js'
import { optionError } from './options.js'
import { withParameters } from './parameters.js'
import { openSplitEngine, partsOf } from './split-engine.js'
import { STATE, type EmitGradients, type EmitLoss, type StepOptions } from './step.js'
import { initialState, type Batch, type StepEngine, type TrainState } from './step-engine.js'
import { trainingForm, type Model, type TrainingForm, type TrainingFormOptions } from './training-form.js'

export interface TrainOptions {
  model: Model
  data: Dataset
  loss: EmitLoss
  optimizer: Optimizer
  /** Learning rate of a step, counted from 0. */
  learningRate(step: number): number
  batchSize: number
  steps: number
  seed: number
  /** News come at every multiple of this many steps, beside others; default: only at the end. */
  newsEvery?: number
  clip?: EmitGradients | undefined
  /** What is computed in float16; parameters, optimizer and the model that comes out stay float32. */
  autocast?: AutocastLevel | undefined
  lossScale?: LossScaleOptions | undefined
  /** Parts that a batch is computed in, one after the other, which takes less memory; divides `batchSize`. Default: 1. */
  parts?: number
  /** Names of weights that stay as they are; `*` stands for any part. */
  freeze?: readonly string[]
  /** What normalization goes by; default: each batch's own mean and variance. */
  statistics?: TrainingFormOptions['statistics']
  device?: string
  threads?: number
  /** State to go on from; default: the model's values, at step 0. */
  resume?: TrainState
  /** Takes the steps in place of an engine of this process; the form says what is trained, and how it starts. */
  openEngine?(form: TrainingForm): StepEngine | Promise<StepEngine>
  signal?: AbortSignal
}

/** Where training is, at its start and after every few steps. */
export interface TrainNews {
  /** Steps done. */
  step: number
  /** Losses of the steps since the last news: none at the start. */
  losses: Float32Array
  state: TrainState
  /** The model with the values of a state, in the current opset. */
  modelOf(state: TrainState): Model
}

/** Steps of one run: enough that starting a run does not count, few enough to see progress. */
const STEPS_PER_RUN = 32
/** Bytes of stacked batches from which on a run has fewer steps. */
const RUN_BYTES = 64 * 2 ** 20

/**
 * Trains until `steps` are done or the caller breaks the loop.
 * @throws FlyweightError as trainingForm and buildStep do; what `signal` was aborted with
 */
export async function* train(options: TrainOptions): AsyncGenerator<TrainNews, void, undefined> {
  const { data, batchSize, steps, newsEvery = steps, signal } = options
  const rows = new ShuffledRows(data.rows, options.seed)
  const batchAt = async (step: number) => data.read(rows.take(step * batchSize, batchSize), step * batchSize)
  const first = await batchAt(0)
  const batch = partOf(first, options)
  const { model, freeze, statistics } = options
  const form = await trainingForm(model, { batch, freeze, ...(statistics === undefined ? {} : { statistics }) })
  const engine = await (options.openEngine?.(form) ?? openEngine(options, { form, batch }))
  const perRun = Math.max(1, Math.min(STEPS_PER_RUN, Math.floor(RUN_BYTES / bytesOf(first))))
  try {
    let state = options.resume ?? initialState(form, engine.state)
    const modelOf = (of: TrainState) => trainedModel(form, of)
    yield { step: state.step, losses: new Float32Array(), state, modelOf }
    const batchesFrom = async (from: number): Promise<Batch[]> => {
      const due = Math.min(steps, from + newsEvery - (from % newsEvery))
      const end = Math.min(due, endOfRun(from, perRun, engine.syncEvery))
      const batches: Batch[] = []
      for (let step = from; step < end; step++) batches.push(await batchAt(step))
      return batches
    }
    let ahead = batchesFrom(state.step)
    while (state.step < steps) {
      signal?.throwIfAborted()
      const batches = await ahead
      const rates = batches.map((_, index) => options.learningRate(state.step + index))
      const advancing = engine.advance(state, batches, rates)
      // Read while engines compute that do not block this thread.
      ahead = batchesFrom(state.step + batches.length)
      ahead.catch(() => {})
      const advanced = await advancing
      state = advanced.state
      yield { step: state.step, losses: advanced.losses, state, modelOf }
    }
  } finally {
    await engine.release()
  }
}

/** As far as a run may go, but to a multiple of `syncEvery`: the last one, or, where there is none, the next. */
function endOfRun(step: number, perRun: number, syncEvery = 1): number {
  const last = Math.floor((step + perRun) / syncEvery) * syncEvery
  return last > step ? last : last + syncEvery
}

async function openEngine(options: TrainOptions, { form, batch }: Pick<StepOptions, 'form' | 'batch'>): Promise<StepEngine> {
  const { loss, optimizer, clip, autocast, lossScale, parts = 1, device, threads } = options
  const session = { ...(device === undefined ? {} : { device }), ...(threads === undefined ? {} : { threads }) }
  // The runtime's kernels for processors have no float16.
  const casting = autocast === undefined ? undefined : { level: autocast, emulated: kindOf(device) === 'cpu' }
  const step = { form, loss, optimizer, clip, autocast: casting, lossScale }
  return parts === 1 && kindOf(device) !== 'webgpu' ? openLoopEngine({ ...step, batch }, session) : openSplitEngine({ ...step, batch, parts }, session)
}

function kindOf(device = 'cpu'): string {
  return device.split(':')[0] as string
}

/** What steps are built for: one of the parts that batches are computed in. */
function partOf(batch: Batch, { batchSize, parts = 1 }: TrainOptions): Batch {
  if (batchSize % parts !== 0) throw optionError('/parts', `got ${parts}, expected a divisor of the ${batchSize} rows of a step`)
  return partsOf(batch, parts)[0] as Batch
}

function trainedModel({ source, parameters, statistics }: TrainingForm, { vectors }: TrainState): Model {
  const trained = withParameters(source, parameters, (vectors[AVERAGE] ?? vectors[STATE.parameters]) as Float32Array<ArrayBuffer>)
  const moved = vectors[STATE.statistics]
  return moved === undefined ? trained : withParameters(trained, statistics, moved)
}

function bytesOf(batch: Batch): number {
  return Object.values(batch).reduce((sum, tensor) => sum + byteSize(tensor), 0)
}
