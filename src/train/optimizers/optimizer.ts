// What an optimizer is: a function that emits the update of all parameters, as one flat vector, from their gradients.
import type { Emitter } from '../../onnx/emitter.js'

export interface UpdateInputs {
  /** Flat float32 vectors of all parameters and of the loss' gradients by them. */
  parameters: string
  gradients: string
  /** Scalar. */
  learningRate: string
  /** Number of this update, from 1: a float32 scalar. */
  step: string
  /** Flat vectors, one a slot. */
  slots: readonly string[]
  /** Where each parameter lies in the flat vectors. */
  layout: readonly { name: string; offset: number; count: number }[]
}

export interface Optimizer {
  name: string
  /** Names of the vectors that are carried from step to step, each as long as the parameters; zero at first. */
  slots: readonly string[]
  /** Whether elements are updated by others of their tensor, too: then not in shards. */
  byTensor?: boolean
  /** Emits the update; returns the names of the new parameters and slots. */
  emit(emit: Emitter, inputs: UpdateInputs): { parameters: string; slots: string[] }
}
