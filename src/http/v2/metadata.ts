// v2 server and model metadata, health, and Triton's configuration and statistics extensions.
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { ModelVersion } from '../../registry/model.js'
import { modelConfig, modelMetadata, serverMetadata, statistics } from '../../v2/metadata.js'
import { answer, component, failures } from '../answers.js'
import type { Scope, Services } from '../services.js'
import * as examples from './examples.js'
import { ModelParams, VersionParams } from './params.js'

const tags = ['v2']
const missing = failures('model_not_found', 'model_not_ready')

export function v2MetadataRoutes(scope: Scope, services: Services): void {
  const { gateway } = services
  const metadata = serverMetadata(services.version)
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
        return modelMetadata(model, repository.versions(model.name))
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
      (request) => modelConfig(find(request.params), config.serving.maxBatch),
    )
  }
}

function statisticsRoutes(scope: Scope, services: Services): void {
  const response = {
    200: answer('Counters since the start', component('V2Statistics'), examples.statistics),
    ...failures('model_not_found', 'model_not_ready'),
  }
  scope.get('/v2/models/stats', { schema: { operationId: 'v2Statistics', tags, summary: 'Statistics of all models', response } }, () => statistics(services))
  for (const { prefix, suffix, params } of targets) {
    scope.get(
      `${prefix}/stats`,
      { schema: { operationId: `v2ModelStatistics${suffix}`, tags, summary: 'Statistics of a model', params, response } },
      (request) => {
        const { model, version } = request.params as { model: string; version?: string }
        return statistics(services, model, version)
      },
    )
  }
}
