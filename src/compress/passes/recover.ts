// Pass `recover`: after channels or weights were removed, fits the weights that are left so that each node's outputs
// come as close to the original model's as they can on the samples: layer-wise least squares, from the inputs on, each
// layer on what those before it now put out. After He et al., "Channel Pruning for Accelerating Very Deep Neural
// Networks" (2017, https://arxiv.org/abs/1707.06168). The account of it is here, the work in recover/, where recovery by
// training is, too.
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { NodeDecision, RecipeStep } from '../../measurements.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import { distil } from '../recover/distil.js'
import { divide } from '../recover/divide.js'
import { fitLayers, percent } from '../recover/fit.js'
import { outputErrors } from '../recover/output-errors.js'
import { foldedNodes, labelOf } from './decisions.js'
import type { Model, Pass, PassContext, PassResult } from './pass.js'

const parameters = Type.Object(
  {
    by: Type.Enum(['least-squares', 'distillation'], {
      default: 'least-squares',
      description:
        'How weights are found: one layer after the other by least squares, in seconds; or all together by training on what the original answers, closer where there are many samples, which needs a training engine',
    }),
    epochs: Type.Number({ default: 20, exclusiveMinimum: 0, maximum: 100_000, description: 'Distillation: how often each sample is seen' }),
    learningRate: Type.Number({
      default: 0.001,
      exclusiveMinimum: 0,
      maximum: 1000,
      description: 'Distillation: the highest, which falls along half a cosine',
    }),
    ridge: Type.Number({
      default: 0.01,
      minimum: 1e-9,
      maximum: 1e3,
      description:
        'Least squares: how much weights are held back from changing, in shares of the mean square of what they meet; up to 1000 times as much where held-out samples ask for it',
    }),
    rows: Type.Integer({ default: 256, minimum: 2, description: 'Least squares: samples used at most; every fourth only judges whether a fit helps' }),
    positions: Type.Integer({ default: 8192, minimum: 16, description: 'Least squares: output positions of a node that are fitted at most, over all samples' }),
    seed: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 2 ** 32 - 1,
      description: 'For the choice of positions, and of the order and held-out samples of training',
    }),
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes whose weights stay' }),
  },
  { additionalProperties: false },
)

export const recover: Pass = {
  name: 'recover',
  description: 'weights fitted by least squares, or trained, so that outputs come close to those before pruning',
  parameters,
  sizeOnly: () => true,
  run: (source, step, context) => (step['by'] === 'distillation' ? distil(source, step, context) : fit(source, step, context)),
}

async function fit(source: Model, step: RecipeStep, context: PassContext): Promise<PassResult> {
  const { samples } = context
  if (samples.rows < 2) {
    const detail = `got ${samples.rows} samples, expected at least 2: weights are fitted on some and judged on others`
    throw new FlyweightError('invalid_recipe', `recover: ${detail}`, { errors: [{ pointer: '/recipe', detail }] })
  }
  const [model, original] = [upgradeOpset(source), upgradeOpset(await context.loadOriginal())]
  const options = {
    ridge: Number(step['ridge']),
    positions: Number(step['positions']),
    seed: Number(step['seed']),
    exclude: new Set(step['exclude'] as string[]),
  }
  const parts = divide(samples, Number(step['rows']))
  const outcomes = await fitLayers(model, { original, parts, options }, context)
  const [tried, fitted] = [[...outcomes.values()].filter(({ error }) => error !== undefined), [...outcomes.values()].filter(({ changed }) => changed)]
  // Every layer may come closer and the outputs not, where what is lost adds up.
  const [before, after] = fitted.length === 0 ? [] : await outputErrors([source, model], original, { ...context, samples: parts.held })
  const judged = before !== undefined && after !== undefined
  const errors = judged ? `the model's outputs on held-out samples err by ${percent(after)} of their energy in place of ${percent(before)}` : ''
  const takenBack = judged && !(after < before)
  const decisions = model.graph.node.map((node): NodeDecision => {
    const { changed, reason } = outcomes.get(node)!
    const done = changed && !takenBack
    const own = changed && takenBack ? `${reason}; taken back: with all fits, ${errors}` : reason
    return { node: labelOf(node), opType: node.opType, pass: 'recover', action: done ? 'done' : 'skipped', reason: own }
  })
  removeDeadNodes(model)
  const outcome = `weights of ${fitted.length} of ${tried.length} nodes fitted on ${parts.fitted.rows} samples`
  const summary = `${outcome}${judged ? `: ${errors}` : ''}${takenBack ? ', so all is taken back' : ''}`
  return { model: takenBack ? upgradeOpset(source) : model, decisions: [...foldedNodes(source, decisions, 'recover'), ...decisions], summary }
}
