// Where a division of a tensor's last dimension, channel by channel, can be done by the constants of what computes
// it: so it costs no node, and the function stays the same. Pure: says what to change, changes nothing.
import { floatAttribute, intAttribute } from '../../onnx/attributes.js'
import { tensorValues } from '../../onnx/builder.js'
import type { GraphIndex } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'

/** An input of a node that is replaced by its elements times `factor`. */
export interface ConstantEdit {
  node: NodeProto
  position: number
  factor: (element: number) => number
}

export interface Absorption {
  /** The nodes whose outputs are divided. */
  nodes: readonly NodeProto[]
  /** What divides the tensor by `scales`, one a channel. */
  edits(scales: Float64Array): ConstantEdit[]
}

/**
 * How what computes `tensor`, `width` wide, takes a division up: LayerNormalization by its scale and offset, Mul by its
 * constant, products by their columns, Add of a constant and Relu together with what is before them. Undefined where
 * something in between is read elsewhere or nothing takes it up.
 */
export function absorption(tensor: string, width: number, index: GraphIndex): Absorption | undefined {
  const node = index.producer(tensor)
  if (node === undefined || node.domain !== '') return undefined
  switch (node.opType) {
    case 'LayerNormalization': {
      if (intAttribute(node, 'axis', -1) !== -1 || !isVector(node.input[1], width, index) || node.output.slice(1).some((name) => name !== '')) return undefined
      const biased = (node.input[2] ?? '') !== ''
      if (biased && !isVector(node.input[2], width, index)) return undefined
      return divisions(node, biased ? [1, 2] : [1], width)
    }
    case 'Mul': {
      const position = node.input.findIndex((name) => isVector(name, width, index))
      return position < 0 ? undefined : divisions(node, [position], width)
    }
    case 'Add': {
      const position = node.input.findIndex((name) => isVector(name, width, index))
      const inner = position < 0 ? undefined : innerAbsorption(node.input[1 - position], width, index)
      return inner && both(divisions(node, [position], width), inner)
    }
    case 'Relu': {
      const inner = innerAbsorption(node.input[0], width, index)
      return inner && { ...inner, nodes: [node, ...inner.nodes] }
    }
    case 'MatMul':
    case 'Gemm':
      return columns(node, width, index)
    default:
      return undefined
  }
}

/** The values of a float32 constant; undefined for anything else. */
export function floatConstant(name: string | undefined, index: GraphIndex): { values: Float32Array; dims: readonly number[] } | undefined {
  const proto = name === undefined || name === '' ? undefined : index.constantProto(name)
  if (proto?.dataType !== dtypes.float32.onnx) return undefined
  const { data, dims } = tensorValues(proto)
  return { values: data as Float32Array, dims }
}

function innerAbsorption(tensor: string | undefined, width: number, index: GraphIndex): Absorption | undefined {
  if (tensor === undefined || index.isOutput(tensor) || index.consumers(tensor).length !== 1) return undefined
  return absorption(tensor, width, index)
}

function columns(node: NodeProto, width: number, index: GraphIndex): Absorption | undefined {
  const weights = floatConstant(node.input[1], index)
  if (weights?.dims.length !== 2) return undefined
  const transposed = node.opType === 'Gemm' && intAttribute(node, 'transB', 0) !== 0
  if (weights.dims[transposed ? 0 : 1] !== width) return undefined
  const bias = node.input[2] ?? ''
  if (bias !== '' && !isVector(bias, width, index)) return undefined
  if (floatAttribute(node, 'alpha', 1) !== 1 || floatAttribute(node, 'beta', 1) !== 1) return undefined
  const inner = weights.dims[1]!
  const ofWeights: Absorption = {
    nodes: [node],
    edits: (scales) => [{ node, position: 1, factor: (i) => 1 / scales[transposed ? Math.floor(i / inner) : i % inner]! }],
  }
  if (bias === '') return ofWeights
  return { nodes: [node], edits: (scales) => [...ofWeights.edits(scales), ...divisions(node, [2], width).edits(scales)] }
}

/** Vectors, one value a channel, at these inputs of a node. */
function divisions(node: NodeProto, positions: readonly number[], width: number): Absorption {
  return { nodes: [node], edits: (scales) => positions.map((position) => ({ node, position, factor: (i) => 1 / scales[i % width]! })) }
}

function both(outer: Absorption, inner: Absorption): Absorption {
  return { nodes: [...outer.nodes, ...inner.nodes], edits: (scales) => [...outer.edits(scales), ...inner.edits(scales)] }
}

/** A float32 constant with `width` values along the last dimension, and no other dimension. */
function isVector(name: string | undefined, width: number, index: GraphIndex): boolean {
  const dims = floatConstant(name, index)?.dims
  return dims?.at(-1) === width && dims.slice(0, -1).every((dim) => dim === 1)
}
