// All graphs of a pipeline, made for one number of rows after another: which node is on which stage is decided once.
import { stepOptions, type StepSettings } from '../step-settings.js'
import type { Batch } from '../step-engine.js'
import { trainingForm, type Model } from '../training-form.js'
import { assignStages } from './assign-stages.js'
import { placeNodes, type PlaceOptions } from './place-nodes.js'
import { stageGraphs, stageUpdate, type StageGraphs, type StageUpdate } from './stage-graphs.js'
import type { StageLayouts } from './stage-state.js'

/** By stage. */
export interface PipelineGraphs {
  graphs: readonly StageGraphs[]
  /** The same for any number of rows. */
  layouts: readonly StageLayouts[]
  updates: readonly StageUpdate[]
}

/**
 * Makes graphs for micro-batches like the one given; throws as trainingForm, buildStep and assignStages do.
 * @param model what is trained, as `step` says
 */
export function graphMaker(model: Model, step: StepSettings): (rows: Batch) => Promise<PipelineGraphs> {
  const { pipeline: stages, schedule, recompute } = step.settings.parallel
  const { autocast: level, ...making } = stepOptions(step)
  // The CPU has no kernels in float16.
  const autocast = level === undefined ? undefined : { level, emulated: true }
  let assigned: ReadonlyMap<string, number> | undefined
  return async (batch) => {
    const form = await trainingForm(model, { batch, freeze: step.settings.freeze })
    const options: PlaceOptions = { ...making, autocast, form, batch, stages, assign: (forward) => (assigned ??= assignStages(forward, stages)) }
    const placed = await placeNodes(options)
    return {
      graphs: stageGraphs(placed, { batch, recompute, joined: recompute || schedule === '1f1b' }),
      layouts: placed.stages,
      updates: placed.stages.map((stage) => stageUpdate(placed, stage, options)),
    }
  }
}
