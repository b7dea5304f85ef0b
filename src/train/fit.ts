// Training with a held-out part that says how it goes: evaluated after every epoch, the best model so far kept, stopped
// early when it does not get better. What the losses are made of is the caller's business.
import type { CurvePoint, Evaluation } from '../measurements.js'
import type { Dataset } from './dataset.js'
import { evaluate, type EvaluateOptions } from './evaluate.js'
import type { TrainState } from './step-engine.js'
import { train, type TrainNews, type TrainOptions } from './trainer.js'
import type { Model } from './training-form.js'

export interface FitOptions extends Omit<TrainOptions, 'resume' | 'newsEvery'> {
  /** Rows to judge on. */
  heldOut: Dataset
  /** Name of the output of scores. */
  output: string
  /** As evaluate takes it. */
  counted?: EvaluateOptions['counted']
  /** Epochs without a better evaluation after which training ends; default: never. */
  patience?: number
  /** Where to go on from. */
  resume?: FitState
  onProgress?(news: FitNews): void
  /** Called after each evaluation with all that is needed to go on from there. */
  onCheckpoint?(state: FitState): void | Promise<void>
}

export interface FitState {
  training: TrainState
  curve: CurvePoint[]
  /** The state that the best evaluation was of. */
  best: TrainState
}

export interface FitNews {
  fraction: number
  step: number
  epoch: number
  /** Mean of the last steps' losses. */
  loss: number
  /** Present after an evaluation. */
  point?: CurvePoint
}

export interface FitResult {
  /** The model that was best on the held-out rows. */
  model: Model
  best: CurvePoint
  curve: CurvePoint[]
  /** Why training ended. */
  ended: 'steps' | 'patience'
}

/** @throws what train and evaluate throw */
export async function fit({ resume, heldOut, output, counted, patience = Infinity, onProgress, onCheckpoint, ...options }: FitOptions): Promise<FitResult> {
  const { data, batchSize, parts = 1, steps, loss, threads, signal } = options
  const perEpoch = Math.ceil(data.rows / batchSize)
  const curve = [...(resume?.curve ?? [])]
  let best = resume?.best
  let last: TrainNews | undefined
  let sum = { loss: 0, steps: 0 }
  for await (const news of train({ ...options, newsEvery: perEpoch, ...(resume === undefined ? {} : { resume: resume.training }) })) {
    const due = news.step > 0 && (news.step >= steps || news.step % perEpoch === 0)
    last = news
    sum = { loss: sum.loss + news.losses.reduce((total, one) => total + one, 0), steps: sum.steps + news.losses.length }
    const progress = { fraction: news.step / steps, step: news.step, epoch: (news.step * batchSize) / data.rows, loss: sum.loss / Math.max(1, sum.steps) }
    if (!due || curve.at(-1)?.step === news.step) {
      onProgress?.(progress)
      continue
    }
    const evaluation = await evaluate({ model: news.modelOf(news.state), data: heldOut, loss, batchSize: batchSize / parts, output, counted, threads, signal })
    const point = { step: news.step, epoch: progress.epoch, loss: progress.loss, heldOut: evaluation }
    const leader = bestOf(curve)
    curve.push(point)
    if (leader === undefined || better(evaluation, leader.heldOut)) best = news.state
    sum = { loss: 0, steps: 0 }
    onProgress?.({ ...progress, point })
    await onCheckpoint?.({ training: news.state, curve: [...curve], best: best as TrainState })
    if (curve.length - 1 - curve.indexOf(bestOf(curve) as CurvePoint) >= patience) break
  }
  const [{ modelOf, step }, leader] = [last as TrainNews, bestOf(curve) as CurvePoint]
  return { model: modelOf(best as TrainState), best: leader, curve, ended: step >= steps ? 'steps' : 'patience' }
}

/** Accuracy counts where there is any, then the loss. */
function better(one: Evaluation, other: Evaluation): boolean {
  if (one.accuracy !== undefined && other.accuracy !== undefined && one.accuracy !== other.accuracy) return one.accuracy > other.accuracy
  // A loss that is no number is worse than any.
  return Number.isNaN(other.loss) ? !Number.isNaN(one.loss) : one.loss < other.loss
}

/** The first of the best. */
function bestOf(curve: readonly CurvePoint[]): CurvePoint | undefined {
  return curve.reduce<CurvePoint | undefined>((best, point) => (best === undefined || better(point.heldOut, best.heldOut) ? point : best), undefined)
}
