// A model in parts, as its devices and their budgets ask for: the blocks that pay are chosen, more where it does not fit.
import { FlyweightError } from '../../errors.js'
import type { GraphProto, ModelProto } from '../../onnx/proto.js'
import type { ObservedTensor } from '../../runtime/observe-tensors.js'
import type { Dataflow } from '../dataflow.js'
import type { ShardPlan } from '../../measurements.js'
import type { CostOptions, Workload } from '../stage-costs.js'
import { overfull } from '../strategy.js'
import { valueTypes } from '../value-types.js'
import { storedBytes } from '../weight-bytes.js'
import { blockSets } from './choose-blocks.js'
import { blockContext } from './context.js'
import { findBlocks } from './find-blocks.js'
import { disjointBlocks } from './layout.js'
import { planOfParts } from './tensor-plan.js'
import { tensorStages, type PartStage } from './tensor-stages.js'

/** Of a model's weights, in layers of which devices can compute parts: with fewer, they would hold the model several times over. */
const LEAST_SHARE = 1 / 4

export interface TensorShardOptions extends CostOptions {
  flow: Dataflow
  observed: ReadonlyMap<string, ObservedTensor>
  /** What measureWorkload gave for `flow`. */
  work: Workload
  microBatches: number
}

/**
 * One part a device. Weights may lie beside the model until the stages are built.
 * @throws FlyweightError `invalid_plan` where too little can be computed in parts, or these exceed the budgets
 */
export function tensorShards(
  model: ModelProto & { graph: GraphProto },
  { flow, observed, work, ...options }: TensorShardOptions,
): { stages: PartStage[]; plan: ShardPlan } {
  const context = blockContext(model, flow, observed)
  const times = new Map(flow.nodes.map((node, index) => [node, work.nodes[index]!.ms]))
  const bytes = new Map(flow.values.map(({ name }, index) => [name, work.values[index]!.bytes]))
  const costs = { msOf: (node: (typeof flow.nodes)[number]) => times.get(node) ?? 0, bytesOf: (tensor: string) => bytes.get(tensor) ?? 0 }
  const weightBytes = (names: readonly string[]) => names.reduce((sum, name) => sum + storedBytes(context.index.constantProto(name)!), 0)
  const blocks = disjointBlocks(findBlocks(model.graph, context), ({ weights }) => weightBytes(weights), context.isConstant)
  const blockCosts = blocks.map(({ join, units, nodes, weights, output }) => ({
    kind: join.kind,
    units,
    ms: [...nodes].reduce((sum, node) => sum + costs.msOf(node), 0),
    weightBytes: weightBytes(weights),
    bytes: costs.bytesOf(output),
  }))
  const total = work.weights.reduce((sum, each) => sum + each, 0)
  const inBlocks = blockCosts.reduce((sum, block) => sum + block.weightBytes, 0)
  if (inBlocks < total * LEAST_SHARE) {
    throw new FlyweightError(
      'invalid_plan',
      `only ${inBlocks} of the model's ${total} bytes of weights are in layers that devices can compute parts of, which quantized ones are not; a pipeline needs none`,
    )
  }
  const typeOf = valueTypes(model.graph, observed)
  const speeds = options.devices.map(({ speed = 1 }) => speed)
  let shortfall = 'the model has no weights'
  for (const set of blockSets(blockCosts, total, options)) {
    const stages = tensorStages(model, { flow, context, blocks: set.map((index) => blocks[index]!), speeds, typeOf })
    const plan = planOfParts(stages, costs, options)
    const over = overfull(plan.stages, options.devices)
    if (over.length === 0) return { stages, plan }
    const needed = over.map(({ device, bytes: held, budgetBytes }) => `${device} would have to hold ${held} bytes of weights, its budget is ${budgetBytes}`)
    shortfall = `the model's weights, ${total} bytes, do not fit ${options.devices.length} parts: ${needed.join('; ')}`
  }
  throw new FlyweightError('invalid_plan', shortfall)
}
