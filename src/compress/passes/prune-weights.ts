// Pass `prune-weights`: zeros in place of the weights that matter least, one by one or N of every M. The runtime
// computes as long as before; what shrinks is what has to be stored and sent. Scores are weight-scores.ts's
// business, the selection masks.ts's, and how to go about it in steps gradual.ts's.
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { NodeDecision, RecipeStep } from '../../measurements.js'
import { tensorValues } from '../../onnx/builder.js'
import { structuralCopy } from '../../onnx/proto.js'
import { float32FromFloat16 } from '../../tensor/float16.js'
import { dtypes } from '../../tensor/tensor.js'
import { pruneGradually, type Gradual } from '../pruning/gradual.js'
import { applyCut, cutAt, dropByBlock, dropByRow } from '../pruning/masks.js'
import { findWeights, type FoundNode, type Weight } from '../pruning/prunable.js'
import { chances, featureNorms, gradientScores, magnitudes, observationKey, wandaScores, type Observed } from '../pruning/weight-scores.js'
import { foldedNodes } from './decisions.js'
import type { Model, Pass, PassContext, PassResult } from './pass.js'

const parameters = Type.Object(
  {
    method: Type.Enum(['magnitude', 'random', 'wanda', 'gradient'], {
      default: 'magnitude',
      description:
        'What makes a weight matter: its size; chance; its size times the norm of the input it meets on the samples (Wanda); its size times its gradient, which needs a training engine',
    }),
    ratio: Type.Number({ default: 0.5, minimum: 0, maximum: 1, description: 'Share of the weights that are zero afterwards; not used with a pattern' }),
    scope: Type.Enum(['auto', 'output', 'layer', 'global'], {
      default: 'auto',
      description:
        'Among which weights the least go: those of one output, of one node, or all; auto is output for Wanda, as its authors do, and layer otherwise; not used with a pattern',
    }),
    pattern: Type.String({
      default: 'none',
      pattern: '^(none|[1-9][0-9]{0,3}:[1-9][0-9]{0,3})$',
      description: 'N:M keeps N of every M consecutive weights along the inputs, e.g. 2:4, which sparse tensor cores compute with; or none',
    }),
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes whose weights stay' }),
    minWeights: Type.Integer({ default: 1024, minimum: 0, description: 'Nodes with fewer weights keep them: they matter more than they take' }),
    schedule: Type.Enum(['once', 'gradual'], {
      default: 'once',
      description:
        'All weights go at once, or in steps between which those left are trained to answer as the original does, which takes time and a training engine; gradual is not for patterns',
    }),
    steps: Type.Integer({ default: 8, minimum: 1, maximum: 1000, description: 'Gradual: how often weights go' }),
    epochs: Type.Number({ default: 5, exclusiveMinimum: 0, maximum: 100_000, description: 'Gradual: how often each sample is seen after each step' }),
    learningRate: Type.Number({
      default: 0.001,
      exclusiveMinimum: 0,
      maximum: 1000,
      description: 'Gradual: the highest of each step, which falls along half a cosine',
    }),
    seed: Type.Integer({ default: 0, minimum: 0, maximum: 2 ** 32 - 1, description: 'For the method random, and the order of samples in training' }),
  },
  { additionalProperties: false },
)

type Method = 'magnitude' | 'random' | 'wanda' | 'gradient'

interface Options {
  method: Method
  ratio: number
  scope: 'output' | 'layer' | 'global'
  block: { keep: number; of: number } | undefined
  seed: number
  exclude: ReadonlySet<string>
  minWeights: number
  /** Absent where all weights go at once. */
  gradual: Pick<Gradual, 'tune' | 'steps' | 'epochs' | 'learningRate'> | undefined
}

export const pruneWeights: Pass = {
  name: 'prune-weights',
  description: 'zeros in place of the weights that matter least: a smaller file to store and send, no more speed on CPUs',
  parameters,
  sizeOnly: () => true,
  async run(source, step, context) {
    const options = optionsOf(step, context)
    if (options.gradual !== undefined) return inSteps(source, { ...options, gradual: options.gradual }, context)
    const { model, weights, nodes, zeros } = await pruneTo(source, options, context)
    return { model, decisions: nodes.map((node) => decide(node, zeros)), summary: summaryOf(weights, zeros) }
  },
}

interface Pruned {
  model: Model
  weights: readonly Weight[]
  nodes: readonly FoundNode[]
  zeros: ReadonlyMap<Weight, Zeros>
}

async function pruneTo(source: Model, options: Options, context: PassContext): Promise<Pruned> {
  const { exclude, minWeights, block, method, gradual } = options
  const model = structuralCopy(source)
  const { weights, nodes } = findWeights(model, {
    exclude,
    minWeights,
    blockOf: block?.of ?? 1,
    observable: method === 'wanda',
    trainable: method === 'gradient' || gradual !== undefined,
  })
  return { model, weights, nodes, zeros: prune(weights, await scorer(source, weights, options, context), options, context) }
}

async function inSteps(source: Model, options: Options & { gradual: NonNullable<Options['gradual']> }, context: PassContext): Promise<PassResult> {
  let last: Pruned | undefined
  const added = new Map<string, number>()
  const { model, rows, loss } = await pruneGradually(
    source,
    {
      ...options,
      ...options.gradual,
      prune: async (of, ratio, own) => {
        last = await pruneTo(of, { ...options, ratio }, own)
        for (const [{ proto }, zeros] of last.zeros) added.set(proto.name, (zeros.added += added.get(proto.name) ?? 0))
        return last.model
      },
    },
    context,
  )
  const { weights, nodes, zeros } = last as Pruned
  const decisions = nodes.map((node) => decide(node, zeros))
  const trained = `${options.gradual.steps} steps, each trained on ${rows} samples; loss against the original on held-out samples ${loss.toPrecision(3)}`
  return { model, decisions: [...foldedNodes(source, decisions, 'prune-weights'), ...decisions], summary: `${summaryOf(weights, zeros)}; ${trained}` }
}

/** @throws FlyweightError `invalid_recipe` for parameters that do not go together, or that need what is not there. */
function optionsOf(step: RecipeStep, { gradients, tune }: PassContext): Options {
  const fail = (parameter: string, detail: string) =>
    new FlyweightError('invalid_recipe', `prune-weights: ${parameter}: ${detail}`, { errors: [{ pointer: `/recipe/${parameter}`, detail }] })
  const method = step['method'] as Method
  const [keep = 0, of] = step['pattern'] === 'none' ? [] : String(step['pattern']).split(':').map(Number)
  if (of !== undefined && keep >= of) throw fail('pattern', `got ${keep}:${of}, expected to keep fewer than ${of} of ${of}`)
  if (method === 'gradient' && gradients === undefined)
    throw fail('method', 'got gradient, which needs a training engine to compute gradients; expected magnitude, random or wanda')
  const gradual = step['schedule'] === 'gradual'
  if (gradual && of !== undefined) throw fail('schedule', `got gradual with the pattern ${keep}:${of}, expected once: a pattern has one share`)
  if (gradual && tune === undefined) throw fail('schedule', 'got gradual, which needs a training engine; expected once')
  const scope = step['scope'] === 'auto' ? (method === 'wanda' ? 'output' : 'layer') : (step['scope'] as Options['scope'])
  return {
    method,
    ratio: Number(step['ratio']),
    scope,
    block: of === undefined ? undefined : { keep, of },
    seed: Number(step['seed']),
    exclude: new Set(step['exclude'] as string[]),
    minWeights: Number(step['minWeights']),
    gradual:
      gradual && tune !== undefined
        ? { tune, steps: Number(step['steps']), epochs: Number(step['epochs']), learningRate: Number(step['learningRate']) }
        : undefined,
  }
}

/** Scores of one weight tensor at a time: they take as much memory as its values in float32. */
type Scorer = (weight: Weight) => Float32Array

async function scorer(source: Model, weights: readonly Weight[], { method, seed }: Options, context: PassContext): Promise<Scorer> {
  switch (method) {
    case 'magnitude':
      return (weight) => magnitudes(valuesOf(weight))
    case 'random':
      return (weight) => chances(valuesOf(weight), seed + weights.indexOf(weight))
    case 'wanda': {
      const norms = await featureNorms(source, observedBy(weights), context)
      return (weight) => wandaScores(valuesOf(weight), weight.layout, joint(weight.activations.map((one) => norms.get(observationKey(one)) as Float64Array)))
    }
    case 'gradient': {
      const names = weights.map(({ proto }) => proto.name)
      const gradients = await context.gradients?.(source, names, context)
      return (weight) => gradientScores(valuesOf(weight), gradients?.get(weight.proto.name) as Float32Array)
    }
  }
}

/** Each activation once, however many weights it meets. */
function observedBy(weights: readonly Weight[]): Observed[] {
  const byKey = new Map<string, Observed>()
  for (const { activations, proto } of weights)
    for (const activation of activations) byKey.set(observationKey(activation), { ...activation, half: proto.dataType === dtypes.float16.onnx })
  return [...byKey.values()]
}

/** Norm of what a shared weight meets in all its places. */
function joint(norms: readonly Float64Array[]): Float64Array {
  return (norms[0] as Float64Array).map((_, feature) => Math.hypot(...norms.map((one) => one[feature] as number)))
}

function valuesOf({ proto }: Weight): Float32Array {
  const { data } = tensorValues(proto)
  return data instanceof Uint16Array ? float32FromFloat16(data) : (data as Float32Array)
}

/** How many elements of a weight tensor are zero afterwards, and how many of them were not before. */
interface Zeros {
  total: number
  added: number
}

/** Sets what scores lowest to zero, in place. */
function prune(weights: readonly Weight[], scoresOf: Scorer, { ratio, scope, block }: Options, context: PassContext): ReadonlyMap<Weight, Zeros> {
  const total = weights.reduce((sum, { count }) => sum + count, 0)
  const cut = scope === 'global' && block === undefined ? cutAt(() => each(weights, scoresOf), Math.round(ratio * total)) : undefined
  const zeros = new Map<Weight, Zeros>()
  let done = 0
  for (const weight of weights) {
    context.signal?.throwIfAborted()
    const scores = scoresOf(weight)
    const values = ownValues(weight)
    const before = countZeros(values)
    const drop = (index: number) => (values[index] = 0)
    if (block !== undefined) dropByBlock(scores, weight.layout, block, drop)
    else if (scope === 'output') dropByRow(scores, weight.layout, ratio, drop)
    else applyCut(scores, cut ?? cutAt(() => [scores], Math.round(ratio * weight.count)), drop)
    const after = countZeros(values)
    zeros.set(weight, { total: after, added: after - before })
    context.onProgress?.((done += weight.count) / total, `pruning ${weight.proto.name}`)
  }
  return zeros
}

function* each(weights: readonly Weight[], scoresOf: Scorer): Generator<Float32Array> {
  for (const weight of weights) yield scoresOf(weight)
}

/** The values of a weight that may be changed: other models share its bytes as they were. */
function ownValues({ proto }: Weight): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  const stored = tensorValues(proto).data
  const values = stored instanceof Uint16Array ? new Uint16Array(stored) : new Float32Array(stored as Float32Array)
  proto.floatData = []
  proto.int32Data = []
  proto.rawData = new Uint8Array(values.buffer)
  return values
}

/** Of halves, too: −0, whose bits are not all zero, is not counted in either type. */
function countZeros(values: Float32Array | Uint16Array): number {
  const bits = values instanceof Float32Array ? new Uint32Array(values.buffer, values.byteOffset, values.length) : values
  let count = 0
  for (const one of bits) if (one === 0) count += 1
  return count
}

function decide({ label, opType, weights, refusal }: FoundNode, zeros: ReadonlyMap<Weight, Zeros>): NodeDecision {
  const decision = (action: NodeDecision['action'], reason: string): NodeDecision => ({ node: label, opType, pass: 'prune-weights', action, reason })
  if (weights.length === 0) return decision('skipped', refusal)
  const { total, added, count } = sumOf(weights, zeros)
  const share = `${percent(total / count)} of its ${count} weights are zero`
  return added === 0 ? decision('skipped', `${share} already`) : decision('done', share)
}

function summaryOf(weights: readonly Weight[], zeros: ReadonlyMap<Weight, Zeros>): string {
  const { total, count } = sumOf(weights, zeros)
  if (count === 0) return 'no weights to prune'
  return `${total} of ${count} weights in ${weights.length} tensors are zero (${percent(total / count)}): smaller to store and send, as fast as before`
}

function sumOf(weights: readonly Weight[], zeros: ReadonlyMap<Weight, Zeros>): Zeros & { count: number } {
  const sum = { total: 0, added: 0, count: 0 }
  for (const weight of weights) {
    const own = zeros.get(weight)
    sum.total += own?.total ?? 0
    sum.added += own?.added ?? 0
    sum.count += weight.count
  }
  return sum
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}
