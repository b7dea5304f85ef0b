// What a node must read, and how that must be shared out, for what it writes to be shared out: one rule an operator, from
// outputs back to inputs. An operator without a rule, such as a quantized one, is left whole.
import { intAttribute, intsAttribute } from '../../onnx/attributes.js'
import type { NodeProto } from '../../onnx/proto.js'
import { fixedSizes, throughReshape, type AxisSplit } from './axis-split.js'
import type { Shapes } from './block.js'

/** Per input its split, or undefined where it is read whole. */
export interface Demand {
  inputs: readonly (AxisSplit | undefined)[]
}

type Rule = (node: NodeProto, split: AxisSplit, shapes: Shapes) => Demand | { units: number } | undefined

const ELEMENTWISE =
  'Abs Acos Add And Asin Atan Cast Ceil Celu Clip Cos Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity ' +
  'IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign ' +
  'Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor'
const REDUCTIONS = 'ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare'
const POOLS = 'AveragePool GlobalAveragePool GlobalMaxPool LpPool MaxPool'

const elementwise: Rule = (node, split, shapes) => {
  const out = shapes.dims(node.output[0] as string)
  if (out === undefined) return undefined
  const inputs: (AxisSplit | undefined)[] = []
  for (const name of node.input) {
    const aligned = name === '' ? 'whole' : broadcast(split, out, shapes.dims(name))
    if (aligned === undefined) return undefined
    inputs.push(aligned === 'whole' ? undefined : aligned)
  }
  return { inputs }
}

/** Axes count from the last; an input of size 1 there is read whole. */
function broadcast(split: AxisSplit, out: readonly (readonly number[])[], dims: readonly (readonly number[])[] | undefined): AxisSplit | 'whole' | undefined {
  if (dims === undefined) return undefined
  const axis = split.axis - (out[0]!.length - dims[0]!.length)
  if (axis < 0 || dims.every((sizes) => sizes[axis] === 1)) return 'whole'
  return dims.every((sizes, set) => sizes[axis] === out[set]![split.axis]) ? { ...split, axis } : undefined
}

const reshape: Rule = (node, split, { dims }) => {
  const [from, to] = [dims(node.input[0] as string), dims(node.output[0] as string)]
  const found = from && to && throughReshape(split, { from, to })
  return found === undefined || !('axis' in found) ? found : { inputs: [found] }
}

const transpose: Rule = (node, split, { dims }) => {
  const rank = dims(node.output[0] as string)?.[0]?.length ?? 0
  const axis = intsAttribute(node, 'perm')?.[split.axis] ?? rank - 1 - split.axis
  return { inputs: [{ ...split, axis }] }
}

/** Columns of the second factor; or an axis that numbers products, such as that of heads. */
const matMul: Rule = (node, split, { dims }) => {
  const [out, left, right] = [...node.output, ...node.input].map(dims)
  if (out === undefined || left === undefined || right === undefined) return undefined
  const [rank, leftRank, rightRank] = [out, left, right].map((shape) => shape[0]!.length) as [number, number, number]
  if (leftRank < 2 || rightRank < 2) return undefined
  if (split.axis === rank - 1) return { inputs: [undefined, { ...split, axis: rightRank - 1 }] }
  if (split.axis === rank - 2) return { inputs: [{ ...split, axis: leftRank - 2 }, undefined] }
  const inputs = [left, right].map((shape) => broadcast(split, out, shape))
  return inputs.includes(undefined) ? undefined : { inputs: inputs.map((each) => (each === 'whole' ? undefined : each)) }
}

const gemm: Rule = (node, split, { dims }) => {
  if (split.axis !== 1) return undefined
  const bias = node.input[2] ? dims(node.input[2])?.[0] : undefined
  const sharedOut = bias !== undefined && (bias.at(-1) ?? 1) > 1
  return { inputs: [undefined, { ...split, axis: intAttribute(node, 'transB', 0) === 1 ? 0 : 1 }, sharedOut ? { ...split, axis: bias.length - 1 } : undefined] }
}

/** Channels written; with one filter a channel, those read, too. */
const conv: Rule = (node, split, { dims }) => {
  const [channels, ofGroup] = dims(node.input[1] as string)?.[0] ?? []
  const groups = intAttribute(node, 'group', 1)
  if (split.axis !== 1 || (groups > 1 && (groups !== channels || ofGroup !== 1))) return undefined
  const filters = { ...split, axis: 0 }
  return { inputs: [groups > 1 ? split : undefined, filters, filters].slice(0, node.input.length) }
}

const softmax: Rule = (node, split, { dims, opset }) => {
  const rank = dims(node.output[0] as string)?.[0]?.length ?? 0
  const axis = nonNegative(intAttribute(node, 'axis', opset < 13 ? 1 : -1), rank)
  // Before opset 13 all axes from this one on are one.
  return split.axis === axis || (opset < 13 && split.axis > axis) ? undefined : { inputs: [split] }
}

const layerNormalization: Rule = (node, split, { dims }) => {
  const rank = dims(node.output[0] as string)?.[0]?.length ?? 0
  return split.axis < nonNegative(intAttribute(node, 'axis', -1), rank) ? { inputs: [split] } : undefined
}

const reduction: Rule = (node, split, { dims, ints }) => {
  const rank = dims(node.input[0] as string)?.[0]?.length ?? 0
  const axes = (node.input[1] ? ints(node.input[1]) : intsAttribute(node, 'axes'))?.map((axis) => nonNegative(axis, rank))
  if (axes === undefined || axes.length === 0) return undefined
  const kept = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => !axes.includes(axis))
  const axis = intAttribute(node, 'keepdims', 1) === 1 ? split.axis : (kept[split.axis] as number)
  return axes.includes(axis) ? undefined : { inputs: [{ ...split, axis }] }
}

const gather: Rule = (node, split, { dims }) => {
  const [data, indices] = node.input.map((name) => dims(name)?.[0])
  if (data === undefined || indices === undefined) return undefined
  const at = nonNegative(intAttribute(node, 'axis', 0), data.length)
  if (split.axis >= at && split.axis < at + indices.length) return undefined
  return { inputs: [{ ...split, axis: split.axis < at ? split.axis : split.axis - indices.length + 1 }] }
}

const slice: Rule = (node, split, { dims, ints }) => {
  const rank = dims(node.input[0] as string)?.[0]?.length ?? 0
  const starts = node.input[1] ? dims(node.input[1])?.[0]?.[0] : intsAttribute(node, 'starts')?.length
  const axes = (node.input[3] ? ints(node.input[3]) : intsAttribute(node, 'axes')) ?? (node.input[3] ? undefined : [...new Array(starts).keys()])
  return axes === undefined || axes.some((axis) => nonNegative(axis, rank) === split.axis) ? undefined : { inputs: [split] }
}

const concat: Rule = (node, split, { dims }) => {
  const rank = dims(node.output[0] as string)?.[0]?.length ?? 0
  return nonNegative(intAttribute(node, 'axis', 0), rank) === split.axis ? undefined : { inputs: node.input.map(() => split) }
}

/** Along its own axis into equal pieces: each part then has its units of all pieces. */
const splitRule: Rule = (node, split, { dims }) => {
  const pieces = node.output.map(dims)
  const rank = pieces[0]?.[0]?.length ?? 0
  if (nonNegative(intAttribute(node, 'axis', 0), rank) !== split.axis) return { inputs: [split] }
  const equal = pieces.every((shape) => shape !== undefined && shape.every((sizes, set) => sizes[split.axis] === pieces[0]![set]![split.axis]))
  const sized = node.input.length > 1 || intsAttribute(node, 'split') !== undefined
  if (sized && fixedSizes(split) === undefined) return undefined
  return equal ? { inputs: [{ ...split, outer: split.outer.map((size) => size * pieces.length) }] } : undefined
}

const channels: Rule = (node, split) =>
  split.axis === 1 ? { inputs: node.input.map((_, index) => (index === 0 ? split : { ...split, axis: 0 })) } : { inputs: [split] }

const pool: Rule = (_, split) => (split.axis < 2 ? { inputs: [split] } : undefined)

const rules: Readonly<Record<string, Rule>> = {
  ...Object.fromEntries(ELEMENTWISE.split(' ').map((opType) => [opType, elementwise])),
  ...Object.fromEntries(REDUCTIONS.split(' ').map((opType) => [opType, reduction])),
  ...Object.fromEntries(POOLS.split(' ').map((opType) => [opType, pool])),
  ...Object.fromEntries(['Flatten', 'Reshape', 'Squeeze', 'Unsqueeze'].map((opType) => [opType, reshape])),
  BatchNormalization: channels,
  Concat: concat,
  Conv: conv,
  Expand: (node, split, shapes) => {
    const [out, from] = [node.output[0], node.input[0]].map((name) => shapes.dims(name as string))
    const found = out && broadcast(split, out, from)
    return found === undefined ? undefined : { inputs: [found === 'whole' ? undefined : found] }
  },
  Gather: gather,
  Gemm: gemm,
  LayerNormalization: layerNormalization,
  LogSoftmax: softmax,
  MatMul: matMul,
  Slice: slice,
  Softmax: softmax,
  Split: splitRule,
  Transpose: transpose,
}

/** @param split of the outputs of `node` that are read */
export function demandOf(node: NodeProto, split: AxisSplit, shapes: Shapes): Demand | { units: number } | undefined {
  return isStandard(node) ? rules[node.opType]?.(node, split, shapes) : undefined
}

/**
 * The axes along which a node sums products: of its first factor and of its second. Sums over parts of them are
 * partial sums of the whole.
 */
export function summedAxes(node: NodeProto, { dims }: Shapes): [number, number] | undefined {
  const ranks = node.input.map((name) => dims(name)?.[0]?.length ?? 0)
  if (!isStandard(node)) return undefined
  if (node.opType === 'MatMul' && ranks.every((rank) => rank >= 2)) return [ranks[0]! - 1, ranks[1]! - 2]
  if (node.opType === 'Gemm') return [intAttribute(node, 'transA', 0) === 1 ? 0 : 1, intAttribute(node, 'transB', 0) === 1 ? 1 : 0]
  return node.opType === 'Conv' && intAttribute(node, 'group', 1) === 1 ? [1, 1] : undefined
}

export function isElementwise(node: NodeProto): boolean {
  return isStandard(node) && rules[node.opType] === elementwise
}

export function isStandard({ domain }: NodeProto): boolean {
  return domain === '' || domain === 'ai.onnx'
}

export function nonNegative(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis
}
