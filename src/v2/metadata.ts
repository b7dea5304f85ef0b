// What v2 says of the server and its models, whatever the transport: metadata, and Triton's configuration and
// statistics extensions. Names of fields are the protocol's, so that both doors hand them on as they are.
import type { Catalog } from '../registry/catalog.js'
import type { ModelVersion } from '../registry/model.js'
import type { GatewayPort, RepositoryPort } from '../serving/ports.js'
import type { ModelStats } from '../serving/request.js'
import { dtypes, type DType, type TensorSpec } from '../tensor/tensor.js'

export const platform = 'onnxruntime_onnx'
const EXTENSIONS = ['classification', 'model_repository', 'model_configuration', 'binary_tensor_data', 'parameters', 'statistics']

/** @param version of Flyweight */
export function serverMetadata(version: string): { name: string; version: string; extensions: string[] } {
  return { name: 'flyweight', version, extensions: EXTENSIONS }
}

/** @param served versions of this model that are served, newest first */
export function modelMetadata({ name, signature: { inputs, outputs } }: ModelVersion, served: readonly ModelVersion[]): object {
  return { name, versions: served.map(({ version }) => version), platform, inputs: inputs.map(metadataOf), outputs: outputs.map(metadataOf) }
}

function metadataOf({ name, dtype, dims }: TensorSpec): object {
  return { name, datatype: dtypes[dtype].v2, shape: freeAsMinusOne(dims) }
}

/** A model's configuration as Triton gives it; `maxBatch` is the server's limit. */
export function modelConfig({ name, signature, manifest }: ModelVersion, maxBatch: number): object {
  const { batchable, inputs, outputs } = signature
  const entry = ({ name: tensor, dtype, dims }: TensorSpec) => ({
    name: tensor,
    data_type: configType(dtype),
    dims: freeAsMinusOne(batchable ? dims.slice(1) : dims),
  })
  const limit = Math.min(maxBatch, manifest.policy?.maxBatch ?? maxBatch)
  return { name, platform, backend: 'onnxruntime', max_batch_size: batchable ? limit : 0, input: inputs.map(entry), output: outputs.map(entry) }
}

/** Triton's name of a dtype in a model's configuration: TYPE_FP32, TYPE_STRING, … */
function configType(dtype: DType): string {
  return dtype === 'string' ? 'TYPE_STRING' : `TYPE_${dtypes[dtype].v2}`
}

function freeAsMinusOne(dims: readonly (number | string)[]): number[] {
  return dims.map((dim) => (typeof dim === 'number' ? dim : -1))
}

interface Counted {
  gateway: GatewayPort
  repository: RepositoryPort
  catalog: Catalog
}

/**
 * Counters since the start, of all models or of one.
 * @throws FlyweightError `model_not_found`, `model_not_ready`
 */
export function statistics({ gateway, repository, catalog }: Counted, model?: string, version?: string): { model_stats: object[] } {
  if (model !== undefined) repository.resolve(model, version)
  const resident = new Map<string, number>()
  for (const entry of gateway.cache().entries) {
    const variant = catalog.variant(entry.variant)
    const key = variant && `${variant.model}:${variant.version}`
    if (key !== undefined) resident.set(key, (resident.get(key) ?? 0) + entry.bytes)
  }
  return { model_stats: gateway.stats(model, version).map((stats) => statsOf(stats, resident.get(`${stats.name}:${stats.version}`) ?? 0)) }
}

/** Input and output times are part of `queue` and `infer` here: a batch's buffers move, they are not copied to a device. */
function statsOf(
  { name, version, lastInferenceMs, inferenceCount, executionCount, success, fail, queue, infer, batches }: ModelStats,
  residentBytes: number,
): object {
  const none = { count: 0, ns: 0 }
  return {
    name,
    version,
    last_inference: lastInferenceMs,
    inference_count: inferenceCount,
    execution_count: executionCount,
    inference_stats: { success, fail, queue, compute_input: none, compute_infer: infer, compute_output: none },
    batch_stats: batches.map(({ batchSize, count, inferNs }) => ({
      batch_size: batchSize,
      compute_input: none,
      compute_infer: { count, ns: inferNs },
      compute_output: none,
    })),
    memory_usage: [{ type: 'CPU', id: 0, byte_size: residentBytes }],
  }
}
