// What settings make of ranks: none, or threads of this process.
import { encodeModel } from '../../onnx/proto.js'
import type { StepEngine } from '../step-engine.js'
import { stepOptions, type StepSettings } from '../step-settings.js'
import { carriedBy } from '../step.js'
import type { Model, TrainingForm } from '../training-form.js'
import { openCoordinator } from './coordinator.js'
import { threadRanks } from './thread-ranks.js'

/** The engine for `train`, where steps are divided over ranks; `threads` are those of all ranks together. */
export function parallelEngine({ model, step, threads }: { model: Model; step: StepSettings; threads: number }): {
  openEngine?: (form: TrainingForm) => StepEngine
} {
  const { data } = step.settings.parallel
  if (data === 1) return {}
  return {
    openEngine: (form) =>
      openCoordinator({
        ranks: threadRanks(data),
        plan: { model: encodeModel(model), step, threads: Math.max(1, Math.floor(threads / data)) },
        state: carriedBy({ ...stepOptions(step), form }),
        waitMs: 0,
      }),
  }
}
