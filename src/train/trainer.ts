// Trains a model: feeds a step graph with shuffled batches, many steps a run, and carries its state from run to run.
// What is trained by which loss is the caller's business; so is what becomes of the result.
import { encodeModel } from '../onnx/proto.js'
import { openSession } from '../runtime/session.js'
import { dtypes, elementCount, type NumericArray, type Tensor } from '../tensor/tensor.js'
import { ShuffledRows, type Dataset } from './dataset.js'
import type { Optimizer } from './optimizers/optimizer.js'
import { AVERAGE } from './moving-average.js'
import { withParameters } from './parameters.js'
import { buildStepGraph, LEARNING_RATES, LOSSES, STATE, type CarriedState, type EmitGradients, type EmitLoss } from './step-graph.js'
import { trainingForm, type Model, type TrainingForm } from './training-form.js'

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
  clip?: EmitGradients
  /** Names of weights that stay as they are; `*` stands for any part. */
  freeze?: readonly string[]
  device?: string
  threads?: number
  /** State to go on from; default: the model's values, at step 0. */
  resume?: TrainState
  signal?: AbortSignal
}

/** All that a further step depends on. */
export interface TrainState {
  /** Steps done. */
  step: number
  /** By name (step-graph.ts): flat vectors. */
  vectors: Readonly<Record<string, Float32Array<ArrayBuffer>>>
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
 * @throws FlyweightError as trainingForm and buildStepGraph do; what `signal` was aborted with
 */
export async function* train(options: TrainOptions): AsyncGenerator<TrainNews, void, undefined> {
  const { data, batchSize, steps, newsEvery = steps, device, threads, signal } = options
  const rows = new ShuffledRows(data.rows, options.seed)
  const batchAt = async (step: number) => data.read(rows.take(step * batchSize, batchSize), step * batchSize)
  const first = await batchAt(0)
  const form = await trainingForm(options.model, { batch: first, freeze: options.freeze })
  const graph = await buildStepGraph({ form, batch: first, loss: options.loss, optimizer: options.optimizer, clip: options.clip })
  const perRun = Math.max(1, Math.min(STEPS_PER_RUN, Math.floor(RUN_BYTES / bytesOf(first))))
  const session = await openSession(encodeModel(graph.model), { ...(device === undefined ? {} : { device }), ...(threads === undefined ? {} : { threads }) })
  try {
    let state = options.resume ?? initialState(form, graph.state)
    const modelOf = (of: TrainState) => trainedModel(form, of)
    yield { step: state.step, losses: new Float32Array(), state, modelOf }
    while (state.step < steps) {
      signal?.throwIfAborted()
      const count = Math.min(perRun, steps - state.step, newsEvery - (state.step % newsEvery))
      const batches: Record<string, Tensor>[] = []
      for (let step = state.step; step < state.step + count; step++) batches.push(await batchAt(step))
      const feeds: Record<string, Tensor> = {
        [LEARNING_RATES]: floats(Float32Array.from({ length: count }, (_, index) => options.learningRate(state.step + index))),
      }
      for (const [column, input] of Object.entries(graph.columns)) feeds[input] = stack(batches.map((batch) => batch[column] as Tensor))
      for (const carried of graph.state) feeds[carried.input] = carriedTensor(carried, state)
      const results = await session.run(feeds)
      state = {
        step: state.step + count,
        vectors: Object.fromEntries(graph.state.filter(isVector).map(({ name, output }) => [name, results[output]?.data as Float32Array<ArrayBuffer>])),
      }
      yield { step: state.step, losses: results[LOSSES]?.data as Float32Array, state, modelOf }
    }
  } finally {
    await session.release()
  }
}

function initialState({ initial }: TrainingForm, carried: readonly CarriedState[]): TrainState {
  const vectors = Object.fromEntries(carried.filter(isVector).map(({ name, count }) => [name, new Float32Array(count)]))
  return {
    step: 0,
    vectors: { ...vectors, [STATE.parameters]: initial.parameters, ...(STATE.statistics in vectors ? { [STATE.statistics]: initial.statistics } : {}) },
  }
}

function trainedModel({ source, parameters, statistics }: TrainingForm, { vectors }: TrainState): Model {
  const trained = withParameters(source, parameters, (vectors[AVERAGE] ?? vectors[STATE.parameters]) as Float32Array<ArrayBuffer>)
  const moved = vectors[STATE.statistics]
  return moved === undefined ? trained : withParameters(trained, statistics, moved)
}

function isVector(carried: CarriedState): carried is CarriedState & { count: number } {
  return carried.count !== undefined
}

function carriedTensor(carried: CarriedState, { step, vectors }: TrainState): Tensor {
  return isVector(carried) ? floats(vectors[carried.name] as Float32Array<ArrayBuffer>) : { dtype: 'float32', dims: [], data: Float32Array.of(step) }
}

function floats(data: Float32Array<ArrayBuffer>): Tensor {
  return { dtype: 'float32', dims: [data.length], data }
}

function bytesOf(batch: Readonly<Record<string, Tensor>>): number {
  return Object.values(batch).reduce((sum, { dtype, dims }) => sum + elementCount(dims) * dtypes[dtype].bytes, 0)
}

/** Tensors of one shape, one after the other along a new first axis. */
function stack(tensors: readonly Tensor[]): Tensor {
  const { dtype, dims, data } = tensors[0] as Tensor & { data: NumericArray }
  const all = new dtypes[dtype as 'float32'].array(data.length * tensors.length)
  for (const [index, tensor] of tensors.entries()) all.set(tensor.data as Float32Array, index * data.length)
  return { dtype, dims: [tensors.length, ...dims], data: all }
}
