// Gradual pruning: few weights go at first, and those left are trained before the next go; fast while many are superfluous,
// slowly when few are left. Zhu and Gupta, "To prune, or not to prune" (2017, https://arxiv.org/abs/1710.01878).
import { storeConstantNodes } from '../../onnx/constant-nodes.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import type { Model, PassContext, Tuner } from '../passes/pass.js'
import { frozenInputs, sparseWeights } from '../recover/trained.js'

/** Share of the weights that are zero after `step` of `steps` steps: s·(1 − (1 − step/steps)³). */
export function gradualShare(final: number, step: number, steps: number): number {
  return final * (1 - (1 - step / steps) ** 3)
}

export interface Gradual {
  tune: Tuner
  /** Share of the weights that are zero at the end. */
  ratio: number
  /** How often weights go. */
  steps: number
  /** How often each sample is seen after each time. */
  epochs: number
  /** The highest of each time. */
  learningRate: number
  seed: number
  /** Names of nodes whose weights stay. */
  exclude: ReadonlySet<string>
  /** Sets that share of a model's weights to zero; leaves the model as it was. */
  prune(model: Model, ratio: number, context: PassContext): Promise<Model>
}

/**
 * Returns the model as trained last, and how far its outputs are from the original's on samples held out. What training makes no
 * better is left as pruned.
 * @throws what `prune` and `tune` throw
 */
export async function pruneGradually(source: Model, options: Gradual, context: PassContext): Promise<{ model: Model; rows: number; loss: number }> {
  const { tune, ratio, steps, epochs, learningRate, seed, exclude, prune } = options
  let model = upgradeOpset(source)
  storeConstantNodes(model.graph)
  removeDeadNodes(model)
  const teacher = upgradeOpset(await context.loadOriginal())
  let [rows, loss] = [0, Number.NaN]
  for (let step = 1; step <= steps; step++) {
    const onProgress = (fraction: number, what: string) => context.onProgress?.((step - 1 + fraction) / steps, `step ${step} of ${steps}: ${what}`)
    const own = { ...context, onProgress }
    const pruned = await prune(model, gradualShare(ratio, step, steps), own)
    const request = { teacher, epochs, learningRate, seed, frozen: frozenInputs(pruned, exclude), sparse: sparseWeights(pruned) }
    const tuned = await tune({ ...request, model: pruned }, own)
    const { before, after } = tuned.heldOut
    model = after < before ? tuned.model : pruned
    ;({ rows } = tuned)
    loss = after < before ? after : before
  }
  return { model, rows, loss }
}
