// Which constants a node multiplies with, and how each is laid out: which elements weigh the inputs of one
// output value. What to do with them is left to who prunes.
import { intAttribute } from '../../onnx/attributes.js'
import type { NodeProto } from '../../onnx/proto.js'

/**
 * Weights as rows, one an output value: a row weighs `inputs` features, `inputStride` apart, with `kernel`
 * consecutive elements each. Element (row, input, k) lies at `start(row) + input · inputStride + k` and meets
 * feature `feature(row) + input` of the activation.
 */
export interface WeightLayout {
  rows: number
  inputs: number
  inputStride: number
  kernel: number
  start(row: number): number
  feature(row: number): number
}

/** Where the features of an activation lie, for sums over everything else. */
export type FeatureAxis = { kind: 'channels'; rank: number } | { kind: 'last'; features: number } | { kind: 'first' }

export interface WeightUse {
  /** Which input of the node the weights are. */
  position: number
  layout: WeightLayout
  /** Input that the weights multiply; undefined where it is computed inside the operator. */
  activation?: { position: number; axis: FeatureAxis }
}

const CANDIDATES: Readonly<Record<string, readonly number[]>> = {
  Conv: [1],
  ConvTranspose: [1],
  Gemm: [1],
  MatMul: [1],
  LSTM: [1, 2],
  GRU: [1, 2],
  RNN: [1, 2],
}

/** Positions of the inputs that are weights where they are constant; none for operators without weights. */
export function weightPositions({ opType, domain }: NodeProto): readonly number[] {
  return domain === '' || domain === 'ai.onnx' ? (CANDIDATES[opType] ?? []) : []
}

/** How the weights of `dims` at one of a node's weight positions are laid out. */
export function weightUse(node: NodeProto, position: number, dims: readonly number[]): WeightUse {
  switch (node.opType) {
    case 'Conv':
      return convolution(node, dims)
    case 'ConvTranspose':
      return transposedConvolution(node, dims)
    case 'Gemm':
      return product(node, dims)
    case 'MatMul':
      return product(node, dims)
    default:
      return recurrent(position, dims)
  }
}

/** [outputs, inputs ÷ groups, …kernel] */
function convolution(node: NodeProto, [rows = 1, inputs = 1, ...spatial]: readonly number[]): WeightUse {
  const kernel = spatial.reduce((count, size) => count * size, 1)
  const perGroup = Math.max(1, rows / intAttribute(node, 'group', 1))
  const layout: WeightLayout = {
    rows,
    inputs,
    inputStride: kernel,
    kernel,
    start: (row) => row * inputs * kernel,
    feature: (row) => Math.floor(row / perGroup) * inputs,
  }
  return { position: 1, layout, activation: { position: 0, axis: { kind: 'channels', rank: spatial.length + 2 } } }
}

/** [inputs, outputs ÷ groups, …kernel] */
function transposedConvolution(node: NodeProto, [channels = 1, outputs = 1, ...spatial]: readonly number[]): WeightUse {
  const kernel = spatial.reduce((count, size) => count * size, 1)
  const groups = intAttribute(node, 'group', 1)
  const inputs = channels / groups
  const groupOf = (row: number) => Math.floor(row / outputs)
  const layout: WeightLayout = {
    rows: outputs * groups,
    inputs,
    inputStride: outputs * kernel,
    kernel,
    start: (row) => (groupOf(row) * inputs * outputs + (row % outputs)) * kernel,
    feature: (row) => groupOf(row) * inputs,
  }
  return { position: 1, layout, activation: { position: 0, axis: { kind: 'channels', rank: spatial.length + 2 } } }
}

/** […, inputs, outputs], or [outputs, inputs] where Gemm says transB. */
function product(node: NodeProto, dims: readonly number[]): WeightUse {
  const transposed = node.opType === 'Gemm' && intAttribute(node, 'transB', 0) !== 0
  const inputs = dims.at(dims.length === 1 || transposed ? -1 : -2) ?? 1
  const outputs = dims.length === 1 ? 1 : (dims.at(transposed ? -2 : -1) ?? 1)
  const stacked = dims.slice(0, -2).reduce((count, size) => count * size, 1)
  const layout: WeightLayout = {
    rows: stacked * outputs,
    inputs,
    inputStride: transposed ? 1 : outputs,
    kernel: 1,
    start: transposed ? (row) => row * inputs : (row) => Math.floor(row / outputs) * inputs * outputs + (row % outputs),
    feature: () => 0,
  }
  const axis: FeatureAxis = node.opType === 'Gemm' && intAttribute(node, 'transA', 0) !== 0 ? { kind: 'first' } : { kind: 'last', features: inputs }
  return { position: 1, layout, activation: { position: 0, axis } }
}

/** [directions, gates, inputs]; what the second of them multiplies, the hidden state, stays inside the operator. */
function recurrent(position: number, [directions = 1, gates = 1, inputs = 1]: readonly number[]): WeightUse {
  const layout: WeightLayout = { rows: directions * gates, inputs, inputStride: 1, kernel: 1, start: (row) => row * inputs, feature: () => 0 }
  return { position, layout, ...(position === 1 ? { activation: { position: 0, axis: { kind: 'last', features: inputs } } } : {}) }
}
