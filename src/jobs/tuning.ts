// Trains pruned models for compression, by the training engine: on the samples, to answer as the model that the recipe started
// from. Compression knows only the interface (compress/passes/pass.ts). What is learned is lessons.ts's business.
import { openModel } from '../compress/open-model.js'
import type { Model, Tuner } from '../compress/passes/pass.js'
import { FlyweightError } from '../errors.js'
import { holdOutRows, subset } from '../train/dataset.js'
import { evaluate } from '../train/evaluate.js'
import { fit } from '../train/fit.js'
import { optimizerOf } from '../train/optimizers/table.js'
import { weightNames } from '../train/parameters.js'
import { scheduleOf } from '../train/schedule.js'
import { withZerosKept, zerosOf } from '../train/sparsity.js'
import { answeredSamples, lessonsOf, lossOfLessons } from './lessons.js'

/** Rows of a step at most. */
const BATCH = 32
/** Share of the samples that only judge. */
const HELD_OUT = 0.1
/** Rows from which on normalization can go by the mean and variance of a batch. */
const FEWEST_TO_NORMALIZE = 8

/**
 * @throws FlyweightError `invalid_recipe` for samples that cannot be trained on or a model without weights or outputs to train,
 * `invalid_model` for an operator without a gradient
 */
export const tuneOnSamples: Tuner = async ({ model, teacher, epochs, learningRate, seed, frozen, sparse }, context) => {
  const { samples, maxBatch, threads, workDir, signal, onProgress } = context
  if (samples.rows < 2) throw refusal(`got ${samples.rows} samples, expected at least 2: some train, others judge`)
  if ((samples.alike?.(0, samples.rows) ?? samples.rows) < samples.rows) throw refusal('got samples of several shapes, expected one shape')
  const freeze = frozenAmong(model, frozen)
  const session = await openModel(teacher, { threads, workDir })
  try {
    const lessons = await lessonsOf(teacher, session, { samples, maxBatch })
    const [lesson] = lessons
    if (lesson === undefined) throw refusal('the model has no float32 output with an entry for each row, expected one to learn')
    const data = answeredSamples(samples, session, { lessons, maxBatch })
    const parts = holdOutRows(samples.rows, HELD_OUT, seed)
    const [training, heldOut] = [subset(data, parts.train), subset(data, parts.heldOut)]
    const batchSize = Math.min(BATCH, training.rows)
    const partRows = mostOf(batchSize, maxBatch)
    const steps = Math.max(1, Math.round((epochs * training.rows) / batchSize))
    const schedule = scheduleOf({ kind: 'cosine' })
    const judging = { output: lesson.output, loss: lossOfLessons(lessons, { labelled: samples.labels !== undefined }), threads, signal }
    const before = await evaluate({ ...judging, model, data: heldOut, batchSize: partRows })
    const { model: trained, best } = await fit({
      model,
      data: training,
      heldOut,
      output: lesson.output,
      loss: judging.loss,
      optimizer: withZerosKept(optimizerOf({ kind: 'adam' }), zerosOf(model, sparse)),
      learningRate: (step) => learningRate * schedule(step, steps),
      batchSize,
      parts: batchSize / partRows,
      statistics: partRows < FEWEST_TO_NORMALIZE ? 'running' : 'batch',
      steps,
      seed,
      threads,
      freeze,
      ...(signal === undefined ? {} : { signal }),
      onProgress: ({ fraction, epoch, loss }) => onProgress?.(fraction, `training, epoch ${epoch.toFixed(1)}, loss ${loss.toPrecision(3)}`),
    })
    return { model: trained, rows: training.rows, heldOut: { before: before.loss, after: best.heldOut.loss } }
  } finally {
    await session.release()
  }
}

/** @throws FlyweightError `invalid_recipe` where nothing is left to train */
function frozenAmong(model: Model, frozen: ReadonlySet<string>): string[] {
  const weights = weightNames(model)
  const kept = weights.filter((name) => frozen.has(name))
  if (kept.length === weights.length)
    throw refusal(kept.length === 0 ? 'the model has no float32 weights' : 'every weight is to stay as it is, expected some to train')
  return kept
}

/** The most rows, up to `most`, that `rows` are a multiple of. */
function mostOf(rows: number, most: number): number {
  for (let size = Math.min(rows, most); size > 1; size--) if (rows % size === 0) return size
  return 1
}

function refusal(detail: string): FlyweightError {
  return new FlyweightError('invalid_recipe', `training on samples: ${detail}`, { errors: [{ pointer: '/recipe', detail }] })
}
