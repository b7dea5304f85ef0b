// Models in parts, from what a run shows of them.
import { allTensors } from '#flyweight/onnx/graph.js'
import { observeTensors } from '#flyweight/runtime/observe-tensors.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import type { Block } from '#flyweight/shard/tensor/block.js'
import { blockContext } from '#flyweight/shard/tensor/context.js'
import { findBlocks } from '#flyweight/shard/tensor/find-blocks.js'
import { disjointBlocks } from '#flyweight/shard/tensor/layout.js'
import { tensorStages, type PartStage } from '#flyweight/shard/tensor/tensor-stages.js'
import { valueTypes } from '#flyweight/shard/value-types.js'
import type { Feeds, Model } from '../stages.js'

export interface InParts {
  blocks: readonly Block[]
  stages: readonly PartStage[]
}

/** Every block in as many parts as there are speeds. */
export async function inParts(model: Model, observed: readonly Feeds[], speeds: readonly number[]): Promise<InParts> {
  const flow = dataflow(model)
  const tensors = await observeTensors(model, observed)
  const context = blockContext(model, flow, tensors)
  const blocks = disjointBlocks(findBlocks(model.graph, context), (block) => storedBytes(model, block.weights), context.isConstant)
  return { blocks, stages: tensorStages(model, { flow, context, blocks, speeds, typeOf: valueTypes(model.graph, tensors) }) }
}

/** Of all stored tensors, or of those named. */
export function storedBytes(model: Model, names?: readonly string[]): number {
  const stored = names === undefined ? [...allTensors(model)] : model.graph.initializer.filter(({ name }) => names.includes(name))
  return stored.reduce((sum, { rawData }) => sum + rawData.length, 0)
}

/** Bytes in all stages of what was cut from stored tensors. */
export function cutBytes(stages: readonly PartStage[]): number {
  const stored = stages.flatMap(({ model }) => model.graph.initializer.filter(({ name, dataType }) => name.includes('.part') && dataType !== 7))
  return stored.reduce((sum, { rawData }) => sum + rawData.length, 0)
}
