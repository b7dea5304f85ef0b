// v2 server and model metadata, health, and Triton's configuration and statistics extensions.
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { ModelVersion } from '../../registry/model.js'
import type { ModelStats } from '../../serving/request.js'
import { dtypes, type TensorSpec } from '../../tensor/tensor.js'
import { answer, component, failures } from '../answers.js'
import type { Scope, Services } from '../services.js'
import * as examples from './examples.js'
import { ModelParams, VersionParams } from './params.js'
import { configType, platform } from './schemas.js'

const EXTENSIONS = ['classification', 'model_repository', 'model_configuration', 'binary_tensor_data', 'parameters', 'statistics']
const tags = ['v2']
const missing = failures('model_not_found', 'model_not_ready')

export function v2MetadataRoutes(scope: Scope, services: Services): void {
  const { gateway, version } = services
  const metadata = { name: 'flyweight', version, extensions: EXTENSIONS }
  scope.get(
    '/v2',
    {
      schema: {
        operationId: 'v2Server',
        tags,
        summary: 'Name, version and extensions',
        response: { 200: answer('The server', component('V2ServerMetadata'), metadata), ...failures() },
      },
    },
    () => metadata,
  )
  scope.get(
    '/v2/health/live',
    {
      schema: {
        operationId: 'v2Live',
        tags,
        summary: 'Is the server alive',
        response: { 200: answer('It is', Type.Object({ live: Type.Boolean() }), { live: true }), ...failures() },
      },
    },
    () => ({ live: true }),
  )
  scope.get(
    '/v2/health/ready',
    {
      schema: {
        operationId: 'v2Ready',
        tags,
        summary: 'Can the server take requests',
        response: { 200: answer('It can', Type.Object({ ready: Type.Boolean() }), { ready: true }), ...failures('model_not_ready') },
      },
    },
    () => {
      if (!gateway.ready()) throw new FlyweightError('model_not_ready', 'no model is ready yet, or the gateway is shutting down')
      return { ready: true }
    },
  )
  modelRoutes(scope, services)
  statisticsRoutes(scope, services)
}

/** Every model route exists with and without a version. */
const targets = [
  { prefix: '/v2/models/:model', suffix: '', params: ModelParams },
  { prefix: '/v2/models/:model/versions/:version', suffix: 'Version', params: VersionParams },
] as const

function modelRoutes(scope: Scope, { repository, config }: Services): void {
  for (const { prefix, suffix, params } of targets) {
    const find = (target: object): ModelVersion => {
      const { model, version } = target as { model: string; version?: string }
      return repository.resolve(model, version)
    }
    scope.get(
      prefix,
      {
        schema: {
          operationId: `v2Model${suffix}`,
          tags,
          summary: 'Inputs and outputs of a model',
          params,
          response: { 200: answer('The model', component('V2ModelMetadata'), examples.modelMetadata), ...missing },
        },
      },
      (request) => {
        const model = find(request.params)
        const { inputs, outputs } = model.signature
        const versions = repository.versions(model.name).map((served) => served.version)
        return { name: model.name, versions, platform, inputs: inputs.map(metadataOf), outputs: outputs.map(metadataOf) }
      },
    )
    scope.get(
      `${prefix}/ready`,
      {
        schema: {
          operationId: `v2ModelReady${suffix}`,
          tags,
          summary: 'Can the model take requests',
          params,
          response: {
            200: answer('It can', Type.Object({ name: Type.String(), version: Type.String(), ready: Type.Boolean() }), {
              name: 'scale',
              version: '1',
              ready: true,
            }),
            ...missing,
          },
        },
      },
      (request) => {
        const { name, version } = find(request.params)
        return { name, version, ready: true }
      },
    )
    scope.get(
      `${prefix}/config`,
      {
        schema: {
          operationId: `v2ModelConfig${suffix}`,
          tags,
          summary: 'Configuration of a model, as Triton gives it',
          params,
          response: { 200: answer('The configuration', component('V2ModelConfig'), examples.modelConfig), ...missing },
        },
      },
      (request) => configOf(find(request.params), config.serving.maxBatch),
    )
  }
}

function statisticsRoutes(scope: Scope, { gateway, repository, catalog }: Services): void {
  const residentBytes = (): Map<string, number> => {
    const bytes = new Map<string, number>()
    for (const entry of gateway.cache().entries) {
      const variant = catalog.variant(entry.variant)
      const key = variant && `${variant.model}:${variant.version}`
      if (key !== undefined) bytes.set(key, (bytes.get(key) ?? 0) + entry.bytes)
    }
    return bytes
  }
  const report = (stats: readonly ModelStats[]) => {
    const resident = residentBytes()
    return { model_stats: stats.map((model) => statsOf(model, resident.get(`${model.name}:${model.version}`) ?? 0)) }
  }
  const response = {
    200: answer('Counters since the start', component('V2Statistics'), examples.statistics),
    ...failures('model_not_found', 'model_not_ready'),
  }
  scope.get('/v2/models/stats', { schema: { operationId: 'v2Statistics', tags, summary: 'Statistics of all models', response } }, () => report(gateway.stats()))
  for (const { prefix, suffix, params } of targets) {
    scope.get(
      `${prefix}/stats`,
      { schema: { operationId: `v2ModelStatistics${suffix}`, tags, summary: 'Statistics of a model', params, response } },
      (request) => {
        const { model, version } = request.params as { model: string; version?: string }
        repository.resolve(model, version)
        return report(gateway.stats(model, version))
      },
    )
  }
}

function metadataOf({ name, dtype, dims }: TensorSpec): object {
  return { name, datatype: dtypes[dtype].v2, shape: freeAsMinusOne(dims) }
}

function configOf({ name, signature, manifest }: ModelVersion, maxBatch: number): object {
  const { batchable, inputs, outputs } = signature
  const entry = ({ name: tensor, dtype, dims }: TensorSpec) => ({
    name: tensor,
    data_type: configType(dtype),
    dims: freeAsMinusOne(batchable ? dims.slice(1) : dims),
  })
  const limit = Math.min(maxBatch, manifest.policy?.maxBatch ?? maxBatch)
  return { name, platform, backend: 'onnxruntime', max_batch_size: batchable ? limit : 0, input: inputs.map(entry), output: outputs.map(entry) }
}

function freeAsMinusOne(dims: readonly (number | string)[]): number[] {
  return dims.map((dim) => (typeof dim === 'number' ? dim : -1))
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
