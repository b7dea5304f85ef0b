// The two parts of a training step as models of their own.
import { model as makeModel, valueInfo } from '../onnx/builder.js'
import { STATE, type Carried, type Shard, type Step } from './step.js'
import { dimsOf, type Batch } from './step-engine.js'
import type { Model } from './training-form.js'

/** State that the gradient part reads. */
export function readByGradient({ name }: { name: string }): boolean {
  return name === STATE.parameters || name === STATE.statistics || name === STATE.scale
}

/** Inputs: parameters, statistics, loss scale, weight and the columns of a batch. Outputs: gradients, statistics and loss. */
export function gradientGraph(step: Step, batch: Batch): Model {
  return makeModel({
    name: 'gradients',
    inputs: [
      ...step.state.filter(readByGradient).map((one) => valueInfo(one.before, 'float32', dimsOf(one))),
      ...(step.weight === undefined ? [] : [valueInfo(step.weight, 'float32', [])]),
      ...Object.entries(batch).map(([name, { dtype, dims }]) => valueInfo(name, dtype, dims)),
    ],
    outputs: [...gradientInfos(step), ...statisticsInfos(step), valueInfo(step.loss, 'float32', [])],
    ...step.gradient,
  })
}

type UpdateStep = Pick<Step, 'state' | 'gradients' | 'buckets' | 'statistics' | 'learningRate' | 'update'> & { norm?: string | undefined }

/**
 * Inputs: the state, gradients, statistics, a learning rate and, where one is named, a norm. Outputs: the state.
 * @param shard what `step.update` was emitted for
 */
export function updateGraph(step: UpdateStep, shard?: Shard): Model {
  const sharded = ({ name, count }: Carried) => shard !== undefined && count !== undefined && name !== STATE.statistics
  const dims = (one: Carried) => (sharded(one) ? [shard?.count as number] : dimsOf(one))
  return makeModel({
    name: 'update',
    inputs: [
      ...step.state.map((one) => valueInfo(one.before, 'float32', one.name === STATE.parameters ? dimsOf(one) : dims(one))),
      ...gradientInfos(step),
      ...statisticsInfos(step),
      valueInfo(step.learningRate, 'float32', []),
      ...(step.norm === undefined ? [] : [valueInfo(step.norm, 'float32', [])]),
    ],
    outputs: step.state.map((one) => valueInfo(one.after, 'float32', dims(one))),
    ...step.update,
  })
}

function gradientInfos({ gradients, buckets }: Pick<Step, 'gradients' | 'buckets'>) {
  return gradients.map((name, bucket) => valueInfo(name, 'float32', [buckets[bucket]?.count as number]))
}

function statisticsInfos({ statistics, state }: Pick<Step, 'statistics' | 'state'>) {
  return statistics === undefined ? [] : [valueInfo(statistics, 'float32', dimsOf(state.find(({ name }) => name === STATE.statistics)!))]
}
