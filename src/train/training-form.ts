// The form of a model that training steps are made of: what is trained comes in from outside, every shape is static, shape
// computations are folded, and normalization uses the statistics of the batch. The model itself stays as it was and
// takes the trained values afterwards by their names.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setAttribute } from '../onnx/attributes.js'
import { dtypeOf, valueInfo } from '../onnx/builder.js'
import { storeConstantNodes } from '../onnx/constant-nodes.js'
import { loadModel } from '../onnx/load.js'
import { tensorNames } from '../onnx/names.js'
import { encodeModel, structuralCopy, type GraphProto, type ModelProto } from '../onnx/proto.js'
import { removeDeadNodes } from '../onnx/rewrite.js'
import { upgradeOpset } from '../onnx/upgrade/opset.js'
import { openSession } from '../runtime/session.js'
import type { Tensor } from '../tensor/tensor.js'
import { gatherParameters, layoutOf, trainableParameters, type Layout } from './parameters.js'

export type Model = ModelProto & { graph: GraphProto }

export interface TrainingForm {
  /** The model that is trained: in the current opset, its weights initializers. */
  source: Model
  /** What a step computes, with parameters and statistics among the inputs. */
  graph: GraphProto
  /** Where each parameter lies in their flat vector. */
  parameters: Layout
  /** The running statistics of normalization, and the tensor that each becomes after a step. */
  statistics: Layout
  updatedStatistics: readonly string[]
  /** Values to start from. */
  initial: { parameters: Float32Array<ArrayBuffer>; statistics: Float32Array<ArrayBuffer> }
}

export interface TrainingFormOptions {
  /** Inputs of one batch: their dims are the only ones that steps run with. */
  batch: Readonly<Record<string, Tensor>>
  freeze?: readonly string[] | undefined
  /** Names of float32 initializers to treat as parameters; default: all weights that are not frozen. */
  parameters?: readonly string[]
  /** What normalization goes by: each batch's own mean and variance, as in training (default), or the running ones. */
  statistics?: 'batch' | 'running'
}

/**
 * @throws FlyweightError `invalid_model` for a model that cannot be brought to the current opset; `invalid_input` as
 * trainableParameters does; what the runtime throws
 */
export async function trainingForm(
  model: Model,
  { batch, freeze, parameters: named, statistics: normalizedBy = 'batch' }: TrainingFormOptions,
): Promise<TrainingForm> {
  const source = upgradeOpset(model)
  storeConstantNodes(source.graph)
  removeDeadNodes(source)
  const stored = new Map(source.graph.initializer.map(({ name, dims }) => [name, { name, dims: dims.map(Number) }]))
  const place = (names: readonly string[]) => layoutOf(names.map((name) => stored.get(name) as { name: string; dims: number[] }))
  const parameters = place(named ?? trainableParameters(source, freeze === undefined ? {} : { freeze }))

  const working = structuralCopy(source)
  const trained = new Set(parameters.tensors.map(({ name }) => name))
  const updates = normalizedBy === 'batch' ? useBatchStatistics(working, trained) : new Map<string, string>()
  const statistics = place([...updates.keys()])
  const outside = [...parameters.tensors, ...statistics.tensors]
  const names = new Set(outside.map(({ name }) => name))
  working.graph.initializer = working.graph.initializer.filter(({ name }) => !names.has(name))
  working.graph.input = [
    ...working.graph.input.map(({ name }) => valueInfo(name, (batch[name] as Tensor).dtype, (batch[name] as Tensor).dims)),
    ...outside.map(({ name, dims }) => valueInfo(name, 'float32', dims)),
  ]
  working.graph.output = [...working.graph.output, ...[...updates].map(([, updated]) => valueInfo(updated, 'float32', ['size']))]
  const { graph } = await folded(working)
  return {
    source,
    graph,
    parameters,
    statistics,
    updatedStatistics: [...updates.values()],
    initial: { parameters: gatherParameters(source, parameters), statistics: gatherParameters(source, statistics) },
  }
}

/**
 * Lets BatchNormalization nodes whose scale is trained use the batch's mean and variance and write the running ones
 * anew; in place. Returns, by running statistic, the tensor that replaces it after a step. Frozen ones stay as they are.
 */
function useBatchStatistics(model: Model, trained: ReadonlySet<string>): Map<string, string> {
  const unique = tensorNames(model)
  const updates = new Map<string, string>()
  for (const node of model.graph.node) {
    if (node.opType !== 'BatchNormalization' || !trained.has(node.input[1] ?? '')) continue
    const running = node.input.slice(3, 5)
    if (!running.every((name) => isStored(model, name)) || running.some((name) => updates.has(name))) continue
    setAttribute(node, 'training_mode', 1)
    const updated = running.map((name) => unique(`${name}::updated`))
    node.output = [node.output[0] as string, ...updated]
    running.forEach((name, index) => updates.set(name, updated[index] as string))
  }
  return updates
}

function isStored({ graph }: Model, name: string): boolean {
  return graph.initializer.some((tensor) => tensor.name === name && dtypeOf(tensor.dataType) === 'float32')
}

/** The model with constants folded, shapes among them; parameters, being inputs, stay what and where they are. */
async function folded(model: Model): Promise<Model> {
  const folder = await mkdtemp(join(tmpdir(), 'training-form-'))
  try {
    const file = join(folder, 'folded.onnx')
    const session = await openSession(encodeModel(model), { optimization: 'basic', optimizedModelFile: file })
    await session.release()
    const result = await loadModel(file)
    storeConstantNodes(result.graph)
    return result
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** The values that a model's parameters and statistics start from, by their names. */
export function startOf({ parameters, statistics, initial }: TrainingForm): Record<string, Tensor> {
  const cut = ({ tensors }: Layout, flat: Float32Array<ArrayBuffer>) =>
    tensors.map(({ name, dims, offset, count }): [string, Tensor] => [name, { dtype: 'float32', dims, data: flat.slice(offset, offset + count) }])
  return Object.fromEntries([...cut(parameters, initial.parameters), ...cut(statistics, initial.statistics)])
}
