// What a compression pass is. passes/table.ts lists those that exist; recipe.ts composes them.
import type { TObject } from 'typebox'
import type { NodeDecision, RecipeStep } from '../../measurements.js'
import type { GraphProto, ModelProto } from '../../onnx/proto.js'
import type { Samples } from '../samples.js'

export type Model = ModelProto & { graph: GraphProto }

/**
 * How large the gradient of a loss is, over the samples, with respect to each of a model's float32 initializers named:
 * its root mean square over batches, element by element. Computing it is the business of whoever trains models.
 */
export type GradientSource = (model: Model, initializers: readonly string[], context: PassContext) => Promise<ReadonlyMap<string, Float32Array>>

export interface PassContext {
  /** Reads the model that the recipe started from, which a pass that repairs compares with: not kept, as it may be large. */
  loadOriginal(): Promise<Model>
  /** Where the variant will run: `cpu`, `cuda:0`, … */
  device: string
  /** Sample inputs, for passes that calibrate. */
  samples: Samples
  /** Rows of a batch that the model accepts: 1 where its batch dimension is fixed. */
  maxBatch: number
  threads: number
  /** Folder for files that are of no use afterwards. */
  workDir: string
  /** Absent where nothing can compute gradients. */
  gradients?: GradientSource
  onProgress?: (fraction: number, step: string) => void
  signal?: AbortSignal | undefined
}

export interface PassResult {
  model: Model
  /** One a node of the model as it came in. */
  decisions: NodeDecision[]
  /** One line: what was done to how much. */
  summary: string
}

export interface Pass {
  name: string
  description: string
  /** TypeBox schema of the step's parameters; every one has a description and a default. */
  parameters: TObject
  /** Whether it only makes models smaller on a device, and promises no speed there. */
  sizeOnly(device: string): boolean
  /** Leaves `model` as it was; `parameters` are complete and valid. */
  run(model: Model, parameters: RecipeStep, context: PassContext): Promise<PassResult>
}
