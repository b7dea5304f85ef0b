// The update that a rank computes: of all parameters, or of its shard of them. The graph is made when it is first needed,
// and anew where the shard becomes another.
import { encodeModel } from '../../onnx/proto.js'
import { openSession, type Session } from '../../runtime/session.js'
import type { Tensor } from '../../tensor/tensor.js'
import { emitUpdate, STATE, type Carried, type Shard, type Step, type StepOptions } from '../step.js'
import { carriedFeeds, carriedResults, type TrainState } from '../step-engine.js'
import { updateGraph } from '../step-graphs.js'
import type { Vector } from './messages.js'
import type { SpareVectors } from './spare-vectors.js'

export interface Sums {
  buckets: readonly Vector[]
  statistics: Vector | undefined
  learningRate: number
  /** What of parameters and slots comes out, and what of slots goes in; default: all. */
  shard?: Shard | undefined
}

export interface RankUpdate {
  /** The state after a step with these gradients and statistics, whose memory is taken. */
  run(state: TrainState, sums: Sums): Promise<TrainState>
  release(): Promise<void>
}

export interface RankUpdateOptions {
  options: StepOptions
  /** Built of them. */
  step: Step
  threads: number
  /** Where vectors come from, and where those that are read go. */
  spares: SpareVectors
}

export function rankUpdate({ options, step, threads, spares }: RankUpdateOptions): RankUpdate {
  let opened: { shard: Shard | undefined; session: Session } | undefined
  const sessionFor = async (shard: Shard | undefined): Promise<Session> => {
    if (opened !== undefined && opened.shard?.offset === shard?.offset && opened.shard?.count === shard?.count) return opened.session
    await opened?.session.release()
    opened = undefined
    const update = shard === undefined ? step.update : emitUpdate(options, step, shard)
    const session = await openSession(encodeModel(updateGraph({ ...step, update }, shard)), { threads })
    opened = { shard, session }
    return session
  }
  return {
    run: async (state, { buckets, statistics, learningRate, shard }) => {
      const session = await sessionFor(shard)
      const feeds = carriedFeeds(step.state, state, ({ before }) => before)
      for (const [bucket, name] of step.gradients.entries()) feeds[name] = floats(buckets[bucket] as Vector)
      if (step.statistics !== undefined) feeds[step.statistics] = floats(statistics as Vector)
      feeds[step.learningRate] = floats(Float32Array.of(learningRate), [])
      const sizeOf = ({ name, count }: Carried) => (shard === undefined || count === undefined || name === STATE.statistics ? (count ?? 1) : shard.count)
      const outputs = Object.fromEntries(step.state.map((one) => [one.after, floats(spares.take(sizeOf(one)), one.count === undefined ? [] : [sizeOf(one)])]))
      await session.runInto(feeds, outputs)
      for (const vector of buckets) spares.give(vector)
      if (statistics !== undefined) spares.give(statistics)
      return carriedResults(step.state, outputs, state.step + 1, ({ after }) => after)
    },
    release: async () => opened?.session.release(),
  }
}

/** A vector, or, with no dims, a scalar, as a tensor. */
export function floats(data: Vector, dims: readonly number[] = [data.length]): Tensor {
  return { dtype: 'float32', dims, data }
}
