// K training steps as the body of one ONNX Loop, so that parameters stay in the runtime from step to step. Runs wherever
// the device has Loop.
import { Emitter } from '../onnx/emitter.js'
import { graph as makeGraph, model as makeModel, node as makeNode, valueInfo } from '../onnx/builder.js'
import { encodeModel } from '../onnx/proto.js'
import { openSession } from '../runtime/session.js'
import { dtypes, type NumericArray, type Tensor } from '../tensor/tensor.js'
import { buildStep, type CarriedState, type Step, type StepOptions } from './step.js'
import { carriedFeeds, carriedResults, dimsOf, type Batch, type StepEngine } from './step-engine.js'
import type { Model } from './training-form.js'

const STEPS = 'steps'

interface LoopGraph {
  /** Inputs: state, columns, `learningRates` [steps]. Outputs: state, `losses` [steps]. */
  model: Model
  inputOf: (one: CarriedState) => string
  outputOf: (one: CarriedState) => string
  learningRates: string
  losses: string
  /** By column of a batch, the input that takes it with a dimension of steps in front. */
  columns: Readonly<Record<string, string>>
}

/**
 * @throws FlyweightError as buildStep does
 */
export async function openLoopEngine(options: StepOptions, session: { device?: string; threads?: number }): Promise<StepEngine> {
  const step = await buildStep(options)
  const { state } = step
  const { model, inputOf, outputOf, learningRates, losses, columns } = loopGraph(step, options.batch)
  const loop = await openSession(encodeModel(model), session)
  return {
    state,
    async advance(from, batches, rates) {
      const feeds = carriedFeeds(state, from, inputOf)
      feeds[learningRates] = { dtype: 'float32', dims: [rates.length], data: Float32Array.from(rates) }
      for (const [column, input] of Object.entries(columns)) feeds[input] = stack(batches.map((batch) => batch[column] as Tensor))
      const results = await loop.run(feeds)
      return { state: carriedResults(state, results, from.step + batches.length, outputOf), losses: results[losses]?.data as Float32Array }
    },
    release: () => loop.release(),
  }
}

/** Each step takes its slice of the stacked columns, the state goes from one to the next, losses are collected. */
function loopGraph(step: Step, batch: Batch): LoopGraph {
  const { state, unique } = step
  const [iteration, going, still, loss] = [unique('iteration'), unique('going'), unique('still_going'), unique('loss::flat')]
  const [learningRates, losses] = [unique('learning_rates'), unique('losses')]
  const columns = Object.fromEntries(Object.keys(batch).map((name) => [name, unique(`${name}::steps`)]))
  const slices = Object.entries(columns).map(([name, all]) => makeNode('Gather', [all, iteration], [name], { name: `${name}::slice` }))
  // Names of a body must not hide those around it.
  const outside = new Map(state.map(({ name }) => [name, { input: unique(name), output: unique(`${name}::done`) }]))
  const inputOf = ({ name }: CarriedState) => outside.get(name)!.input
  const outputOf = ({ name }: CarriedState) => outside.get(name)!.output
  const body = makeGraph({
    name: 'step',
    inputs: [valueInfo(iteration, 'int64', []), valueInfo(going, 'bool', []), ...state.map((one) => valueInfo(one.before, 'float32', dimsOf(one)))],
    outputs: [valueInfo(still, 'bool', []), ...state.map((one) => valueInfo(one.after, 'float32', dimsOf(one))), valueInfo(loss, 'float32', [])],
    nodes: [
      makeNode('Identity', [going], [still]),
      makeNode('Gather', [learningRates, iteration], [step.learningRate], { name: 'learning_rate::slice' }),
      ...slices,
      ...step.gradient.nodes,
      ...step.update.nodes,
      makeNode('Identity', [step.loss], [loss]),
    ],
  })
  const emit = new Emitter(unique)
  const trips = emit.op('Squeeze', [emit.op('Shape', [learningRates])])
  const loop = makeNode('Loop', [trips, '', ...state.map(inputOf)], [...state.map(outputOf), losses], { name: 'steps', attributes: { body } })
  const stacked = Object.entries(columns).map(([name, all]) => valueInfo(all, (batch[name] as Tensor).dtype, [STEPS, ...(batch[name] as Tensor).dims]))
  const model = makeModel({
    name: 'training',
    inputs: [...state.map((one) => valueInfo(inputOf(one), 'float32', dimsOf(one))), ...stacked, valueInfo(learningRates, 'float32', [STEPS])],
    outputs: [...state.map((one) => valueInfo(outputOf(one), 'float32', dimsOf(one))), valueInfo(losses, 'float32', [STEPS])],
    nodes: [...emit.nodes, loop],
    initializers: [...step.gradient.initializers, ...step.update.initializers, ...emit.initializers],
  })
  return { model, inputOf, outputOf, learningRates, losses, columns }
}

/** Tensors of one shape, one after the other along a new first axis. */
function stack(tensors: readonly Tensor[]): Tensor {
  const { dtype, dims, data } = tensors[0] as Tensor & { data: NumericArray }
  const all = new dtypes[dtype as 'float32'].array(data.length * tensors.length)
  for (const [index, tensor] of tensors.entries()) all.set(tensor.data as Float32Array, index * data.length)
  return { dtype, dims: [tensors.length, ...dims], data: all }
}
