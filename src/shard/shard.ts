// One way from a model file to the files of its stages and a plan: by one of the strategies, or by the better of both.
import { realpath, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { externalFiles, loadExternalData } from '../onnx/external-data.js'
import { FlyweightError } from '../errors.js'
import type { Tensor } from '../tensor/tensor.js'
import { dataflow } from './dataflow.js'
import { readBeside, saveStages } from './files.js'
import { stagesByCuts, stagesByPatterns } from './manual.js'
import { measureWorkload, observeIn } from './measure.js'
import { partition } from './partition.js'
import type { ShardPlan, StagePlan } from '../measurements.js'
import { planOf } from './plan.js'
import type { StageDevice } from './stage-costs.js'
import { cutStages, type Stage } from './stages.js'
import { bestPlan, type Objective, type Strategy } from './strategy.js'
import { checkParts } from './tensor/check-parts.js'
import { tensorShards } from './tensor/tensor-shards.js'
import { valueTypes } from './value-types.js'

/** 10 GB/s: values are copied into a stage and out of it, within one machine's memory. */
export const MS_PER_BYTE = 1e-7
/** Messages to a thread and back. */
export const MS_PER_HOP = 0.15

export interface ShardOptions {
  /** Takes the stages; made where there is none. */
  folder: string
  /** One row, and where the model takes more, two. */
  feedSets: readonly Readonly<Record<string, Tensor>>[]
  /** One a stage of a pipeline, or a part of a tensor-parallel model. */
  devices: readonly StageDevice[]
  /** Uses as few of the devices as hold the model, from two on. */
  fewest?: boolean
  /** Default `pipeline`. */
  strategy?: Strategy
  /** What `auto` chooses by; default latency. */
  objective?: Objective
  /** Stages by hand: names of tensors to cut after, or patterns of node names a stage. */
  cuts?: readonly string[] | undefined
  patterns?: readonly (readonly string[])[] | undefined
  /** What nodes are measured on. */
  device?: string
  threads?: number
  /** In flight, that the plan is told for. */
  microBatches: number
}

/** A plan whose stages have files. */
export interface Sharded extends Omit<ShardPlan, 'stages'> {
  stages: readonly (StagePlan & { file: string; inputs: readonly string[]; outputs: readonly string[] })[]
}

interface Candidate {
  plan: ShardPlan
  stages(): Promise<readonly Pick<Stage, 'model' | 'inputs' | 'outputs'>[]>
}

/**
 * Writes the stages of the model in `file` into the folder.
 * @throws FlyweightError `invalid_model` for a file that cannot be used, `invalid_plan` for stages that cannot be made or do not fit, and
 *   for parts that do not give what the whole gives
 */
export async function shardModel(file: string, options: ShardOptions): Promise<Sharded> {
  const { folder, feedSets, strategy = 'pipeline', objective = 'latency', cuts, patterns, device = 'cpu', threads = 1, microBatches } = options
  const model = await readBeside(file, folder)
  const flow = dataflow(model)
  const byHand = cuts ? stagesByCuts(flow, cuts) : patterns && stagesByPatterns(flow, patterns)
  const observed = await observeIn(folder, model, feedSets)
  const work = await measureWorkload(model, { folder, flow, observed, feeds: feedSets[0]!, device, threads })
  const costsOn = (devices: readonly StageDevice[]) => ({ devices, msPerByte: MS_PER_BYTE, msPerHop: MS_PER_HOP, microBatches })
  const pipeline = (devices: readonly StageDevice[]): Candidate => {
    const costs = costsOn(devices)
    const assignment = byHand ?? partition(work, costs)
    const typeOf = valueTypes(model.graph, observed)
    return { plan: planOf(work, assignment, costs), stages: async () => cutStages(model, { flow, assignment, typeOf }) }
  }
  const tensor = (devices: readonly StageDevice[]): Candidate => {
    const { plan, stages } = tensorShards(model, { flow, observed, work, ...costsOn(devices) })
    const loaded = async () => {
      // Parts hold slices of their own, so nothing needs to lie beside them.
      const beside = externalFiles(model)
      await loadExternalData(model, folder)
      if ((await realpath(folder)) !== (await realpath(dirname(file)))) for (const name of beside) await rm(join(folder, name))
      return stages.map((stage) => ({ ...stage, model: stage.build() }))
    }
    return { plan, stages: loaded }
  }
  const makers = { pipeline: [pipeline], tensor: [tensor], auto: byHand === undefined ? [pipeline, tensor] : [pipeline] }[strategy]
  const candidates = possible(makers, counts(options))
  const best = bestPlan(
    candidates.map((candidate) => ({ ...candidate.plan, candidate })),
    objective,
  ).candidate
  const stages = await best.stages()
  const files = await saveStages(stages, folder)
  const told = best.plan.stages.map((stage, index) => ({ file: files[index]!, ...stage, inputs: stages[index]!.inputs, outputs: stages[index]!.outputs }))
  if (best.plan.strategy === 'tensor') await checkParts(file, told, { folder, feedSets })
  return { ...best.plan, stages: told }
}

function counts({ devices, fewest = false }: ShardOptions): (readonly StageDevice[])[] {
  return fewest ? devices.slice(1).map((_, index) => devices.slice(0, index + 2)) : [devices]
}

/** Those that can be made, on the first devices that do. @throws the last refusal where none can */
function possible(makers: readonly ((devices: readonly StageDevice[]) => Candidate)[], choices: readonly (readonly StageDevice[])[]): Candidate[] {
  let refusal: FlyweightError = new FlyweightError('invalid_plan', 'there are no two devices to share the model out to')
  for (const devices of choices) {
    const made = makers.flatMap((make) => {
      try {
        return [make(devices)]
      } catch (error) {
        if (!(error instanceof FlyweightError) || error.code !== 'invalid_plan') throw error
        refusal = error
        return []
      }
    })
    if (made.length > 0) return made
  }
  throw refusal
}
