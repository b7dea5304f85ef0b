// What blocks are, and what finding them needs to know of a model.
import type { GraphIndex } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import type { AxisSplit } from './axis-split.js'

/** Nodes of which each device computes a part. */
export interface Block {
  /** In the graph's order; constant ones too, where what they give is cut. */
  nodes: ReadonlySet<NodeProto>
  /** How each tensor that is cut is cut, weights included. All else that its nodes read is read whole. */
  splits: ReadonlyMap<string, AxisSplit>
  units: number
  /** What it gives: the sum of what its parts give, or that put together along an axis. */
  output: string
  join: { kind: 'sum'; at: NodeProto } | { kind: 'concat'; axis: number }
  /** Stored tensors that are cut. */
  weights: readonly string[]
  /** Tensors that its nodes read whole, constants and its own left out. */
  reads: readonly string[]
}

/** What rules know of a model's tensors. */
export interface Shapes {
  opset: number
  /** One shape a feed set; undefined for what is no tensor, or of a type without elements of whole bytes. */
  dims(tensor: string): readonly (readonly number[])[] | undefined
  /** The values of a stored tensor of integers. */
  ints(tensor: string): readonly number[] | undefined
}

export interface BlockContext {
  index: GraphIndex
  shapes: Shapes
  isConstant(tensor: string): boolean
}
