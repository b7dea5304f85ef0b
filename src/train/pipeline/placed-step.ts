// A training step whose nodes have their stages.
import type { NodeProto, TensorProto } from '../../onnx/proto.js'
import type { DType } from '../../tensor/tensor.js'
import type { Layout } from '../parameters.js'
import type { CarriedState } from '../step.js'

/** `free`: computed from the stage's own vectors alone, again wherever it is needed. */
export const PASSES = ['free', 'forward', 'backward'] as const

type NodesByPass = Readonly<Record<(typeof PASSES)[number], readonly NodeProto[]>>

export interface PlacedStage {
  /** Each in an order in which they can be computed. */
  nodes: NodesByPass
  /** What the stage holds, in vectors of its own. A parameter that several stages read is the first one's. */
  parameters: Layout
  statistics: Layout
  /** Flat vectors; undefined where the stage has none. */
  gradients: string | undefined
  updatedStatistics: string | undefined
}

export interface PlacedStep {
  stages: readonly PlacedStage[]
  initializers: readonly TensorProto[]
  /** Tensors that come from outside, by the same names on every stage; counts are those of the whole. */
  state: readonly CarriedState[]
  /** Scalar that multiplies the gradients of a micro-batch. */
  weight: string
  loss: string
  describe(tensor: string): { dtype: DType; dims: readonly number[] }
  unique: (base: string) => string
}
