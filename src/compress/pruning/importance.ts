// How much each unit of a group matters: one number, comparable between groups, as each is divided by the mean of
// its group. Importance of single weights is weight-scores.ts's business, the choice allocate.ts's.
import { FlyweightError } from '../../errors.js'
import { tensorValues } from '../../onnx/builder.js'
import type { TensorProto } from '../../onnx/proto.js'
import { mulberry32 } from '../../runtime/sample-inputs.js'
import { float32FromFloat16 } from '../../tensor/float16.js'
import type { Model, PassContext } from '../passes/pass.js'
import type { Group, Groups, Member } from './groups.js'
import { featureNorms, observationKey, type Observed } from './weight-scores.js'

export type Importance = 'l1' | 'l2' | 'bn-gamma' | 'activation' | 'gradient' | 'random'

/** One number an index along a member's axis. */
type Scorer = (member: Member) => Float64Array | undefined

/**
 * Scores of the units of each group, mean 1. Weights give the sum (L1) or norm (L2) of a unit's slices of every
 * weight it spans; `bn-gamma` the scale of its BatchNormalization (Liu et al. 2017, https://arxiv.org/abs/1708.06519);
 * `activation` the norm of its values on the samples; `gradient` Σ|w·∂L/∂w| (Molchanov et al. 2019).
 * @throws FlyweightError `invalid_recipe` for `gradient` where nothing can compute gradients.
 */
export async function scoreGroups(
  model: Model,
  found: Groups,
  { importance, seed }: { importance: Importance; seed: number },
  context: PassContext,
): Promise<Float64Array[]> {
  const { groups, weights } = found
  const initializers = new Map(model.graph.initializer.map((proto) => [proto.name, proto]))
  const slices = (power: number, factors?: ReadonlyMap<string, Float32Array>): Scorer => {
    const known = new Map<string, Float64Array>()
    return ({ tensor, axis }) => {
      const proto = weights.has(tensor) ? initializers.get(tensor) : undefined
      if (proto === undefined) return undefined
      const key = `${axis} ${tensor}`
      const sums = known.get(key) ?? sliceSums(proto, axis, { power, factors: factors?.get(tensor) })
      known.set(key, sums)
      return sums
    }
  }
  switch (importance) {
    case 'random': {
      const random = mulberry32(seed)
      return groups.map(({ units }) => Float64Array.from(units, () => random()))
    }
    case 'l1':
      return groups.map((group) => combined(group, slices(1)))
    case 'l2': {
      const squares = slices(2)
      return groups.map((group) => combined(group, squares, Math.sqrt))
    }
    case 'bn-gamma': {
      const scales = new Set(model.graph.node.filter(({ opType }) => opType === 'BatchNormalization').map(({ input }) => input[1]))
      const gamma: Scorer = ({ tensor }) => {
        const proto = scales.has(tensor) ? initializers.get(tensor) : undefined
        return proto && sliceSums(proto, 0, { power: 1 })
      }
      const squares = slices(2)
      return groups.map((group) => (group.members.some((member) => gamma(member)) ? combined(group, gamma) : combined(group, squares, Math.sqrt)))
    }
    case 'activation':
      return activationScores(model, found, context)
    case 'gradient': {
      if (context.gradients === undefined) {
        const detail = 'got gradient, which needs the training engine to compute gradients; expected l1, l2, bn-gamma, activation or random'
        throw new FlyweightError('invalid_recipe', `prune-channels: importance: ${detail}`, { errors: [{ pointer: '/recipe/importance', detail }] })
      }
      const gradients = await context.gradients(model, [...weights], context)
      const products = slices(1, gradients)
      return groups.map((group) => combined(group, products))
    }
  }
}

/** Mean over the members that a scorer knows, each divided by its mean over the group. */
function combined({ units, members }: Group, scorer: Scorer, finish: (sum: number) => number = (sum) => sum): Float64Array {
  const scores = new Float64Array(units.length)
  for (const member of members) {
    const values = scorer(member)
    if (values === undefined) continue
    const own = member.indices.map((indices) => finish(indices.reduce((sum, i) => sum + (values[i] as number), 0)))
    const mean = own.reduce((sum, value) => sum + value, 0) / own.length
    if (mean > 0) own.forEach((value, unit) => (scores[unit]! += value / mean))
  }
  const mean = scores.reduce((sum, value) => sum + value, 0) / scores.length
  return mean > 0 ? scores.map((value) => value / mean) : scores
}

/** Σ|w·factor|^power over each slice along an axis. */
function sliceSums(proto: TensorProto, axis: number, { power, factors }: { power: number; factors?: Float32Array | undefined }): Float64Array {
  const { data, dims } = tensorValues(proto)
  const values = proto.dataType === 10 ? float32FromFloat16(data as Uint16Array) : (data as Float32Array)
  const size = dims[axis] as number
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const sums = new Float64Array(size)
  for (let i = 0; i < values.length; i++) {
    const value = Math.abs((values[i] as number) * (factors?.[i] ?? 1))
    sums[Math.floor(i / inner) % size]! += power === 2 ? value * value : value
  }
  return sums
}

/** Norms of the activations that convolutions and products read, by unit. */
async function activationScores(model: Model, { groups, weights, facts }: Groups, context: PassContext): Promise<Float64Array[]> {
  const observed = new Map<string, Observed>()
  const keyOfMember = new Map<Member, string>()
  for (const group of groups) {
    for (const member of group.members) {
      const { tensor, axis } = member
      const dims = facts.shapes.of(tensor)?.[0] ?? []
      const reads = facts.index
        .consumers(tensor)
        .some(({ input, opType }) => input[0] === tensor && weights.has(input[1] ?? '') && /^(Conv|ConvTranspose|Gemm|MatMul)$/.test(opType))
      if (!reads) continue
      const last = axis === dims.length - 1
      if (!last && axis !== 1) continue
      const one: Observed = { tensor, half: false, axis: last ? { kind: 'last', features: dims[axis] as number } : { kind: 'channels', rank: dims.length } }
      observed.set(observationKey(one), one)
      keyOfMember.set(member, observationKey(one))
    }
  }
  const norms = await featureNorms(model, [...observed.values()], context)
  return groups.map((group) => combined(group, (member) => norms.get(keyOfMember.get(member) ?? '')))
}
