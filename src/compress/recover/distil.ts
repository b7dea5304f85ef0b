// Recovery by distillation: the whole pruned model is trained to answer as the original does, which only somebody who trains
// models can do (passes/pass.ts). After Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
import { FlyweightError } from '../../errors.js'
import type { NodeDecision, RecipeStep } from '../../measurements.js'
import { tensorValues } from '../../onnx/builder.js'
import { storeConstantNodes } from '../../onnx/constant-nodes.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import { foldedNodes, labelOf } from '../passes/decisions.js'
import type { Model, PassContext, PassResult } from '../passes/pass.js'
import { frozenInputs, sparseWeights } from './trained.js'

/**
 * Elements that are zero in weights of rank 2 and up stay zero: a step before said so. All is taken back where outputs on
 * held-out samples come no closer.
 * @throws FlyweightError `invalid_recipe` where nothing can train; what `context.tune` throws
 */
export async function distil(source: Model, step: RecipeStep, context: PassContext): Promise<PassResult> {
  if (context.tune === undefined) {
    const detail = 'got distillation, which needs a training engine; expected least-squares'
    throw new FlyweightError('invalid_recipe', `recover: by: ${detail}`, { errors: [{ pointer: '/recipe/by', detail }] })
  }
  const model = upgradeOpset(source)
  storeConstantNodes(model.graph)
  removeDeadNodes(model)
  const exclude = new Set(step['exclude'] as string[])
  const request = {
    model,
    teacher: upgradeOpset(await context.loadOriginal()),
    epochs: Number(step['epochs']),
    learningRate: Number(step['learningRate']),
    seed: Number(step['seed']),
    frozen: frozenInputs(model, exclude),
    sparse: sparseWeights(model),
  }
  const tuned = await context.tune(request, context)
  const { before, after } = tuned.heldOut
  const takenBack = !(after < before)
  const judged = `loss against the original on held-out samples ${before.toPrecision(3)} before, ${after.toPrecision(3)} after`
  const changed = changedInitializers(model, tuned.model)
  const decisions = model.graph.node.map((node): NodeDecision => {
    const decide = (action: NodeDecision['action'], reason: string): NodeDecision => ({
      node: labelOf(node),
      opType: node.opType,
      pass: 'recover',
      action,
      reason,
    })
    if (exclude.has(labelOf(node))) return decide('skipped', 'excluded by the recipe')
    if (!node.input.some((name) => changed.has(name))) return decide('skipped', 'it has no weights that training changes')
    return takenBack ? decide('skipped', `its weights were trained; taken back: ${judged}`) : decide('done', 'its weights are trained with all others')
  })
  return {
    model: takenBack ? source : tuned.model,
    decisions: [...foldedNodes(source, decisions, 'recover'), ...decisions],
    summary: `${changed.size} tensors trained on ${tuned.rows} samples: ${judged}${takenBack ? ', so all is taken back' : ''}`,
  }
}

function changedInitializers(before: Model, after: Model): Set<string> {
  const old = new Map(before.graph.initializer.map((tensor) => [tensor.name, tensor]))
  const changed = after.graph.initializer.filter((tensor) => {
    const own = old.get(tensor.name)
    if (own === undefined || own === tensor) return false
    const [was, is] = [tensorValues(own).data, tensorValues(tensor).data] as [Float32Array, Float32Array]
    return is.some((value, index) => value !== was[index])
  })
  return new Set(changed.map(({ name }) => name))
}
