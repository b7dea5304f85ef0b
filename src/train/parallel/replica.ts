// A rank's copy of what is trained: gradient graphs, one for each number of rows that it gets, and the update. Both are
// the graphs of a split step; what lies between them, the sum over ranks, is the caller's business.
import { decodeModel } from '../../onnx/proto.js'
import type { Tensor } from '../../tensor/tensor.js'
import { buildStep, STATE, type Step, type StepOptions } from '../step.js'
import { openLoopEngine } from '../loop-engine.js'
import { optionError } from '../options.js'
import { openSplitEngine, partsOf } from '../split-engine.js'
import { carriedFeeds, initialState, type Advance, type Batch, type StepEngine, type TrainState } from '../step-engine.js'
import { gradientGraph, readByGradient } from '../step-graphs.js'
import { stepOptions } from '../step-settings.js'
import { trainingForm } from '../training-form.js'
import type { RankPlan, Vector } from './messages.js'
import { floats, rankUpdate, type RankUpdate, type Sums } from './rank-update.js'
import { openSegments, type Segments } from './segments.js'
import { SpareVectors } from './spare-vectors.js'

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
  /** The state after a step with these gradients and statistics, whose memory is taken. */
  update(state: TrainState, sums: Sums): Promise<TrainState>
  /** Steps on the rank's own rows alone, as many as there are batches, all of the same size. */
  advance(state: TrainState, batches: readonly Batch[], learningRates: readonly number[]): Promise<Advance>
  /** Where its vectors come from, and go when they are of no use any more. */
  readonly spares: SpareVectors
  release(): Promise<void>
}

interface RowsGraph {
  step: Step
  gradient: Segments
}

/** Graphs are made when they are first needed: the shapes of rows are not known before. */
export function openReplica({ model: bytes, step: settings, threads }: RankPlan): Replica {
  const model = decodeModel(bytes)
  const { autocast: level, ...making } = stepOptions(settings)
  // The CPU has no kernels in float16.
  const autocast = level === undefined ? undefined : { level, emulated: true }
  const bySize = new Map<number, Promise<RowsGraph>>()
  let update: RankUpdate | undefined

  const build = async (rows: Batch): Promise<RowsGraph> => {
    const form = await trainingForm(model, { batch: rows, freeze: settings.settings.freeze })
    const { buckets } = settings.settings.parallel
    const options: StepOptions = { ...making, autocast, form, batch: rows, weighted: true, buckets }
    const step = await buildStep(options)
    update ??= rankUpdate({ options, step, threads, spares })
    const ends = step.gradients.map((name, bucket) =>
      bucket < step.gradients.length - 1 ? [name] : [name, step.loss, ...(step.statistics === undefined ? [] : [step.statistics])],
    )
    const start = carriedFeeds(step.state.filter(readByGradient), initialState(form, step.state), ({ before }) => before)
    const feeds = { ...start, ...rows, [step.weight as string]: floats(Float32Array.of(1), []) }
    return { step, gradient: await openSegments(gradientGraph(step, rows), { ends, feeds, threads }) }
  }
  const engines = new Map<number, Promise<StepEngine>>()
  const openAlone = async (rows: Batch): Promise<StepEngine> => {
    const { parts, freeze } = settings.settings
    const size = rowsOf(rows)
    if (size % parts !== 0) throw optionError('/parts', `got ${parts}, expected a divisor of the ${size} rows that a rank has of a step by itself`)
    const batch = partsOf(rows, parts)[0] as Batch
    const options = { ...making, autocast, form: await trainingForm(model, { batch, freeze }), batch }
    return parts === 1 ? openLoopEngine(options, { threads }) : openSplitEngine({ ...options, parts }, { threads })
  }
  const graphFor = (rows: Batch): Promise<RowsGraph> => {
    const size = rowsOf(rows)
    const known = bySize.get(size) ?? build(rows)
    bySize.set(size, known)
    return known
  }
  const spares = new SpareVectors()
  return {
    spares,
    gradients: async (state, { rows, weight }, onBucket) => {
      const { step, gradient } = await graphFor(rows)
      const feeds = carriedFeeds(step.state.filter(readByGradient), state, ({ before }) => before)
      const buckets = step.buckets.map(({ count }) => spares.take(count))
      const statistics = step.statistics === undefined ? undefined : spares.take(step.state.find(({ name }) => name === STATE.statistics)?.count ?? 0)
      const loss = floats(new Float32Array(1), [])
      const outputs: Record<string, Tensor> = { [step.loss]: loss }
      for (const [bucket, name] of step.gradients.entries()) outputs[name] = floats(buckets[bucket] as Vector)
      if (step.statistics !== undefined) outputs[step.statistics] = floats(statistics as Vector)
      const given = { ...feeds, ...rows, [step.weight as string]: floats(Float32Array.of(weight), []) }
      await gradient.run(given, outputs, (bucket) => onBucket(bucket, buckets[bucket] as Vector))
      return { loss: Number(loss.data[0]), statistics }
    },
    update: (state, sums) => (update as RankUpdate).run(state, sums),
    advance: async (state, batches, learningRates) => {
      const rows = batches[0] as Batch
      const engine = engines.get(rowsOf(rows)) ?? openAlone(rows)
      engines.set(rowsOf(rows), engine)
      return (await engine).advance(state, batches, learningRates)
    },
    release: async () => {
      for (const engine of engines.values()) await (await engine.catch(() => undefined))?.release()
      for (const made of bySize.values()) await (await made.catch(() => undefined))?.gradient.release()
      await update?.release()
    },
  }
}

function rowsOf(batch: Batch): number {
  return Object.values(batch)[0]?.dims[0] ?? 0
}
