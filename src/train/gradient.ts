// What the gradient of an operator is: a function that emits, from the gradients of a node's outputs, those of its
// inputs. gradients/ has one for each operator, gradients/table.ts lists them, backward.ts walks the graph with them.
import type { Emitter } from '../onnx/emitter.js'
import type { NodeProto } from '../onnx/proto.js'
import type { DType, Tensor } from '../tensor/tensor.js'

/** What is known of every tensor of a graph whose shapes are all static. */
export interface Tensors {
  /** @throws Error for a tensor that the graph does not have: a defect of the caller. */
  dims(tensor: string): readonly number[]
  dtype(tensor: string): DType
  /** Values of a stored tensor that is not trained; undefined for what is computed. */
  constant(tensor: string): Tensor | undefined
}

export interface GradientContext extends Tensors {
  node: NodeProto
  emit: Emitter
  /** Gradients of the loss by the node's outputs, of their shapes and types; undefined where the loss does not depend on one. */
  upstream: readonly (string | undefined)[]
  /** Whether the gradient by an input is asked for: only then it must be computed. False for absent inputs. */
  wants(input: number): boolean
  /** A scalar constant of the type of the node's first output. */
  scalar(value: number): string
  /** Refuses the node: throws a FlyweightError `invalid_model` that names it and says why. */
  refuse(reason: string): never
}

/**
 * Emits the gradients of a node's inputs, by position and of the inputs' shapes; undefined for those not asked for, and
 * for those that the outputs do not depend on smoothly (indices, shapes, conditions).
 */
export type Gradient = (context: GradientContext) => readonly (string | undefined)[]
