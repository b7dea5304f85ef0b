// What settings make of ranks: none, threads of this process, or a group that other machines join.
import { encodeModel } from '../../onnx/proto.js'
import type { StepEngine } from '../step-engine.js'
import { stepOptions, type StepSettings } from '../step-settings.js'
import { carriedBy } from '../step.js'
import type { Model, TrainingForm } from '../training-form.js'
import { optionError } from '../options.js'
import { openPipelineEngine } from '../pipeline/pipeline-engine.js'
import { threadStages } from '../pipeline/thread-stages.js'
import { openCoordinator } from './coordinator.js'
import type { ParallelSettings } from './parallel-settings.js'
import type { Ranks } from './ranks.js'
import { threadRanks } from './thread-ranks.js'

export interface ParallelOptions {
  model: Model
  step: StepSettings
  /** Of all ranks of this process together. */
  threads: number
  openGroup?: OpenGroup | undefined
}

/** Adds the ranks of other machines to those of this process. */
export type OpenGroup = (own: Ranks, settings: ParallelSettings) => Promise<Ranks>

/**
 * The engine for `train`, where steps are divided over ranks.
 * @throws FlyweightError `invalid_input` for a group where there is no way to one, or for no ranks at all
 */
export function parallelEngine({ model, step, threads, openGroup }: ParallelOptions): { openEngine?: (form: TrainingForm) => Promise<StepEngine> } {
  const { parallel } = step.settings
  const { data, group, waitSeconds, outer, pipeline } = parallel
  if (pipeline > 1)
    return {
      openEngine: async (form) => {
        const stages = threadStages({ stages: pipeline, replicas: data })
        return openPipelineEngine({ model, form, step, stages, threads: Math.max(1, Math.floor(threads / (data * pipeline))) })
      },
    }
  if (group !== undefined && openGroup === undefined)
    throw optionError('/parallel/group', `got "${group}", but there is no Redis that its workers join through`)
  if (group === undefined && data === 0) throw optionError('/parallel/data', 'got 0, expected at least 1 where no group is named')
  if (data === 1 && group === undefined && outer === undefined) return {}
  return {
    openEngine: async (form) => {
      const own = threadRanks(data)
      const opened = group === undefined || openGroup === undefined ? own : openGroup(own, parallel)
      const ranks = await Promise.resolve(opened).catch(async (error: unknown) => {
        await own.release()
        throw error
      })
      return openCoordinator({
        ranks,
        plan: { model: encodeModel(model), step, threads: Math.max(1, Math.floor(threads / Math.max(1, data))) },
        state: carriedBy({ ...stepOptions(step), form }),
        waitMs: group === undefined ? 0 : 1000 * waitSeconds,
      })
    },
  }
}
