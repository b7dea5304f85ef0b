// Models in parts, from what a run shows of them.
import { expect } from 'vitest'
import { allTensors } from '#flyweight/onnx/graph.js'
import { observeTensors } from '#flyweight/runtime/observe-tensors.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import type { Block } from '#flyweight/shard/tensor/block.js'
import { blockContext } from '#flyweight/shard/tensor/context.js'
import { findBlocks } from '#flyweight/shard/tensor/find-blocks.js'
import { disjointBlocks } from '#flyweight/shard/tensor/layout.js'
import { tensorStages } from '#flyweight/shard/tensor/tensor-stages.js'
import { valueTypes } from '#flyweight/shard/value-types.js'
import type { Stage } from '#flyweight/shard/stages.js'
import type { Feeds, Model } from '../stages.js'

/** Bytes of the sizes of reshapes that parts have of their own. */
const SHAPES = 600

export interface InParts {
  blocks: readonly Block[]
  stages: readonly BuiltStage[]
}

export interface BuiltStage extends Stage {
  rank: number
  part: number
}

/** Every block in as many parts as there are speeds. */
export async function inParts(model: Model, observed: readonly Feeds[], speeds: readonly number[]): Promise<InParts> {
  const flow = dataflow(model)
  const tensors = await observeTensors(model, observed)
  const context = blockContext(model, flow, tensors)
  const blocks = disjointBlocks(findBlocks(model.graph, context), (block) => storedBytes(model, block.weights), context.isConstant)
  const stages = tensorStages(model, { flow, context, blocks, speeds, typeOf: valueTypes(model.graph, tensors) }).map((stage) => ({
    ...stage,
    model: stage.build(),
  }))
  for (const stage of stages) expect(Math.abs(storedBytes(stage.model) - stage.weightBytes)).toBeLessThan(SHAPES)
  return { blocks, stages }
}

/** Of all stored tensors, or of those named. */
export function storedBytes(model: Model, names?: readonly string[]): number {
  const stored = names === undefined ? [...allTensors(model)] : model.graph.initializer.filter(({ name }) => names.includes(name))
  return stored.reduce((sum, { rawData }) => sum + rawData.length, 0)
}

/** Bytes in all stages of what was cut from stored tensors. */
export function cutBytes(stages: readonly BuiltStage[]): number {
  const stored = stages.flatMap(({ model }) => model.graph.initializer.filter(({ name, dataType }) => name.includes('.part') && dataType !== 7))
  return stored.reduce((sum, { rawData }) => sum + rawData.length, 0)
}
