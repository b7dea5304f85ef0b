// How much each unit of a group matters: one number, comparable between groups, as each is divided by the mean of
// its group. Importance of single weights is weight-scores.ts's business, the choice allocate.ts's.
import { FlyweightError } from '../../errors.js'
import { tensorValues } from '../../onnx/builder.js'
import type { TensorProto } from '../../onnx/proto.js'
import { mulberry32 } from '../../runtime/sample-inputs.js'
import { float32FromFloat16 } from '../../tensor/float16.js'
import { dtypes } from '../../tensor/tensor.js'
import type { Model, PassContext } from '../passes/pass.js'
import { keyOf } from './coordinates.js'
import { rankOf } from './coupling.js'
import type { Group, Groups, Member } from './groups.js'
import { weightPositions, weightUse } from './weight-layouts.js'
import { featureNorms, observationKey, type Observed } from './weight-scores.js'

export type Importance = 'l1' | 'l2' | 'bn-gamma' | 'activation' | 'gradient' | 'random'

/** One number an index along a member's axis. */
type Scorer = (member: Member) => Float64Array | undefined

/**
 * Scores of the units of each group, mean 1. Weights give the sum (L1) or norm (L2) of a unit's slices of every
 * weight it spans; `bn-gamma` the scale of its BatchNormalization (Liu et al. 2017, https://arxiv.org/abs/1708.06519);
 * `activation` what the next layers get from it on the samples; `gradient` Σ|w·∂L/∂w| (Molchanov et al. 2019).
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
    case 'activation': {
      const contribution = await contributions(model, found, context)
      return groups.map((group) => combined(group, contribution, Math.sqrt))
    }
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

function floatsOf(proto: TensorProto): Float32Array {
  const { dtype, data } = tensorValues(proto)
  return dtype === 'float16' ? float32FromFloat16(data as Uint16Array) : (data as Float32Array)
}

/** Σ|w·factor|^power over each slice along an axis. */
function sliceSums(proto: TensorProto, axis: number, { power, factors }: { power: number; factors?: Float32Array | undefined }): Float64Array {
  const dims = proto.dims.map(Number)
  const values = floatsOf(proto)
  const size = dims[axis] as number
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const sums = new Float64Array(size)
  for (let i = 0; i < values.length; i++) {
    const value = Math.abs((values[i] as number) * (factors?.[i] ?? 1))
    sums[Math.floor(i / inner) % size]! += power === 2 ? value * value : value
  }
  return sums
}

/**
 * What the next convolutions and products get from each index of their inputs: Σ(w·‖x‖)² over the weights that meet it,
 * with the norm of its values on the samples. That is how much their outputs change, on average, when it goes.
 */
async function contributions(model: Model, { weights, facts }: Groups, context: PassContext): Promise<Scorer> {
  const initializers = new Map(model.graph.initializer.map((proto) => [proto.name, proto]))
  const readers = model.graph.node.flatMap((node) => {
    const proto = weightPositions(node).includes(1) && weights.has(node.input[1] ?? '') ? initializers.get(node.input[1] as string) : undefined
    const { layout, activation } = proto === undefined ? {} : weightUse(node, 1, proto.dims.map(Number))
    if (proto === undefined || layout === undefined || activation === undefined) return []
    const observed: Observed = { tensor: node.input[activation.position] as string, axis: activation.axis, half: proto.dataType === dtypes.float16.onnx }
    const axis = { channels: 1, last: rankOf(observed.tensor, facts.shapes) - 1, first: 0 }[observed.axis.kind]
    return [{ proto, layout, observed, read: keyOf({ tensor: observed.tensor, axis }) }]
  })
  const norms = await featureNorms(model, [...new Map(readers.map(({ observed }) => [observationKey(observed), observed])).values()], context)
  const sums = new Map<string, Float64Array>()
  for (const { proto, layout, observed, read } of readers) {
    const own = norms.get(observationKey(observed)) as Float64Array
    const sum = sums.get(read) ?? new Float64Array(own.length)
    const values = floatsOf(proto)
    for (let row = 0; row < layout.rows; row++) {
      for (let input = 0; input < layout.inputs; input++) {
        const feature = layout.feature(row) + input
        const first = layout.start(row) + input * layout.inputStride
        for (let index = first; index < first + layout.kernel; index++) sum[feature]! += ((values[index] as number) * (own[feature] as number)) ** 2
      }
    }
    sums.set(read, sum)
  }
  return (member) => sums.get(keyOf(member))
}
