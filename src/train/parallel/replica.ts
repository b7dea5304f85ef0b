// A rank's copy of what is trained: gradient graphs, one for each number of rows that it gets, and the update. Both are
// the graphs of a split step; what lies between them, the sum over ranks, is the caller's business.
import { decodeModel, encodeModel } from '../../onnx/proto.js'
import { openSession, type Session } from '../../runtime/session.js'
import type { Tensor } from '../../tensor/tensor.js'
import { buildStep, type Step, type StepOptions } from '../step.js'
import { carriedFeeds, carriedResults, type Batch, type TrainState } from '../step-engine.js'
import { gradientGraph, readByGradient, updateGraph } from '../step-graphs.js'
import { stepOptions } from '../step-settings.js'
import { trainingForm } from '../training-form.js'
import type { RankPlan, Vector } from './messages.js'

export interface Replica {
  /**
   * Weighted gradients of the loss over rows, one vector a bucket as soon as it is there, and the statistics as the rows
   * move them.
   */
  gradients(
    state: TrainState,
    part: { rows: Batch; weight: number },
    onBucket: (bucket: number, vector: Vector) => void,
  ): Promise<{ loss: number; statistics: Vector | undefined }>
  /** The state after a step with these gradients and statistics. */
  update(state: TrainState, step: { buckets: readonly Vector[]; statistics: Vector | undefined; learningRate: number }): Promise<TrainState>
  release(): Promise<void>
}

interface RowsGraph {
  step: Step
  gradient: Session
}

/** Graphs are made when they are first needed: the shapes of rows are not known before. */
export function openReplica({ model: bytes, step: settings, threads }: RankPlan): Replica {
  const model = decodeModel(bytes)
  const { autocast: level, ...making } = stepOptions(settings)
  // The CPU has no kernels in float16.
  const autocast = level === undefined ? undefined : { level, emulated: true }
  const bySize = new Map<number, Promise<RowsGraph>>()
  let update: Promise<{ step: Step; session: Session }> | undefined

  const build = async (rows: Batch): Promise<RowsGraph> => {
    const form = await trainingForm(model, { batch: rows, freeze: settings.settings.freeze })
    const options: StepOptions = { ...making, autocast, form, batch: rows, weighted: true }
    const step = await buildStep(options)
    update ??= openSession(encodeModel(updateGraph(step)), { threads }).then((session) => ({ step, session }))
    return { step, gradient: await openSession(encodeModel(gradientGraph(step, rows)), { threads }) }
  }
  const graphFor = (rows: Batch): Promise<RowsGraph> => {
    const size = rowsOf(rows)
    const known = bySize.get(size) ?? build(rows)
    bySize.set(size, known)
    return known
  }
  return {
    gradients: async (state, { rows, weight }, onBucket) => {
      const { step, gradient } = await graphFor(rows)
      const feeds = carriedFeeds(step.state.filter(readByGradient), state, ({ before }) => before)
      const results = await gradient.run({ ...feeds, ...rows, [step.weight as string]: scalar(weight) })
      for (const [bucket, name] of step.gradients.entries()) onBucket(bucket, results[name]?.data as Vector)
      const statistics = step.statistics === undefined ? undefined : (results[step.statistics]?.data as Vector)
      return { loss: Number(results[step.loss]?.data[0]), statistics }
    },
    update: async (state, { buckets, statistics, learningRate }) => {
      const { step, session } = (await update) as { step: Step; session: Session }
      const feeds = carriedFeeds(step.state, state, ({ before }) => before)
      for (const [bucket, name] of step.gradients.entries()) feeds[name] = vectorOf(buckets[bucket] as Vector)
      if (step.statistics !== undefined) feeds[step.statistics] = vectorOf(statistics as Vector)
      feeds[step.learningRate] = scalar(learningRate)
      return carriedResults(step.state, await session.run(feeds), state.step + 1, ({ after }) => after)
    },
    release: async () => {
      for (const made of bySize.values()) await (await made.catch(() => undefined))?.gradient.release()
      await (await update?.catch(() => undefined))?.session.release()
    },
  }
}

function rowsOf(batch: Batch): number {
  return Object.values(batch)[0]?.dims[0] ?? 0
}

function scalar(value: number): Tensor {
  return { dtype: 'float32', dims: [], data: Float32Array.of(value) }
}

function vectorOf(data: Vector): Tensor {
  return { dtype: 'float32', dims: [data.length], data }
}
