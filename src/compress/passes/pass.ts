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

/** What a pass wants a model to learn. */
export interface TuningRequest {
  /** In the current opset, its constants initializers; left as it was. */
  model: Model
  /** The model whose outputs it learns, under the same names. */
  teacher: Model
  /** How often each sample is seen. */
  epochs: number
  /** The highest: it falls along half a cosine. */
  learningRate: number
  /** For the order of the samples, and for those held out. */
  seed: number
  /** Names of initializers that stay as they are. */
  frozen: ReadonlySet<string>
  /** Names of initializers whose zeros stay zero. */
  sparse: ReadonlySet<string>
}

export interface TuningResult {
  /** The model with other weights, and otherwise the one given but for nodes that nothing reads. */
  model: Model
  /** Samples that it learned from. */
  rows: number
  /** How far its outputs were and are from the teacher's on samples held out, in the measure that training makes small. */
  heldOut: { before: number; after: number }
}

/**
 * Trains a model on the context's samples so that it answers as another does, and as their labels say where they have any.
 * The same request and samples give the same weights. Doing so is the business of whoever trains models.
 */
export type Tuner = (request: TuningRequest, context: PassContext) => Promise<TuningResult>

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
  /** Absent where nothing can train. */
  tune?: Tuner
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
