// Cutting models and running their stages one after the other, as an executor would: each takes what it reads from all
// that is known so far.
import { encodeModel, type GraphProto, type ModelProto } from '#flyweight/onnx/proto.js'
import { observeTensors, type ObservedTensor } from '#flyweight/runtime/observe-tensors.js'
import { openSession } from '#flyweight/runtime/session.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import { cutStages, type Stage } from '#flyweight/shard/stages.js'
import { valueTypes } from '#flyweight/shard/value-types.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

export type Model = ModelProto & { graph: GraphProto }
export type Feeds = Record<string, Tensor>

/** In `stages` stages of equally many nodes. */
export function evenly(model: Model, stages: number): number[] {
  const { nodes } = dataflow(model)
  return nodes.map((_, index) => Math.floor((index * stages) / nodes.length))
}

export function cutObserved(model: Model, assignment: readonly number[], observed: ReadonlyMap<string, ObservedTensor>): Stage[] {
  return cutStages(model, { flow: dataflow(model), assignment, typeOf: valueTypes(model.graph, observed) })
}

export async function cut(model: Model, assignment: readonly number[], feedSets: readonly Feeds[]): Promise<Stage[]> {
  return cutObserved(model, assignment, await observeTensors(model, feedSets))
}

/** The outputs of the whole for each feed set. */
export async function runStages(
  stages: readonly Stage[],
  outputs: readonly string[],
  feedSets: readonly Feeds[],
  optimization: 'disabled' | 'all' = 'disabled',
): Promise<Feeds[]> {
  const known = feedSets.map((feeds): Feeds => ({ ...feeds }))
  for (const { model, inputs } of stages) {
    const session = await openSession(encodeModel(model), { optimization })
    try {
      for (const values of known) Object.assign(values, await session.run(Object.fromEntries(inputs.map((name) => [name, values[name] as Tensor]))))
    } finally {
      await session.release()
    }
  }
  return known.map((values) => Object.fromEntries(outputs.map((name) => [name, values[name] as Tensor])))
}

export async function runWhole(model: Model, feedSets: readonly Feeds[], optimization: 'disabled' | 'all' = 'disabled'): Promise<Feeds[]> {
  const session = await openSession(encodeModel(model), { optimization })
  try {
    const results: Feeds[] = []
    for (const feeds of feedSets) results.push(await session.run(feeds))
    return results
  } finally {
    await session.release()
  }
}
