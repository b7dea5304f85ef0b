// Models: list, look at, upload, remove. The upload is validated in probation by the repository.
import multipart from '@fastify/multipart'
import { Type } from 'typebox'
import { join } from 'node:path'
import { FlyweightError } from '../../errors.js'
import type { ModelVersion } from '../../registry/model.js'
import { answer, component, emptyAnswer, failures, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'
import { bytesPass } from '../validation.js'
import * as examples from './examples.js'
import { withUpload } from './upload.js'

const tags = ['admin']
const params = Type.Object({ name: Type.String({ examples: ['digits'] }) }, strict)
const version = Type.Optional(Type.String({ description: 'A whole number', examples: ['1'] }))

export function modelRoutes(scope: Scope, services: Services): void {
  const { repository, capture } = services
  scope.get(
    '/admin/models',
    {
      schema: {
        operationId: 'listModels',
        tags,
        summary: 'Every model version and its state',
        response: {
          200: answer('The models', Type.Object({ models: Type.Array(component('ModelStatus')) }), { models: [examples.modelStatus] }),
          ...failures(),
        },
      },
    },
    () => ({ models: repository.list() }),
  )
  scope.get(
    '/admin/models/:name',
    {
      schema: {
        operationId: 'getModel',
        tags,
        summary: 'One model: its states, and what is known of the versions that serve',
        params,
        response: {
          200: answer(
            'The model',
            Type.Object({ name: Type.String(), states: Type.Array(component('ModelStatus')), versions: Type.Array(component('Model')) }),
            { name: 'digits', states: [examples.modelStatus], versions: [examples.model] },
          ),
          ...failures('model_not_found'),
        },
      },
    },
    (request) => {
      const { name } = request.params
      const states = repository.list().filter((status) => status.name === name)
      if (states.length === 0) throw new FlyweightError('model_not_found', `there is no model ${JSON.stringify(name)}; GET /admin/models lists them`)
      return { name, states, versions: repository.versions(name).map(modelView) }
    },
  )
  scope.delete(
    '/admin/models/:name',
    {
      schema: {
        operationId: 'deleteModel',
        tags,
        summary: 'Remove a model, or one version of it, with its files in the repository and what was captured of its traffic',
        params,
        querystring: Type.Object({ version }, strict),
        response: { 204: emptyAnswer('Removed'), ...failures('malformed', 'unknown_field', 'model_not_found', 'conflict') },
      },
    },
    async (request, reply) => {
      await repository.remove(request.params.name, request.query.version)
      await capture.forget(request.params.name, request.query.version)
      return reply.code(204).send()
    },
  )
  scope.register((uploads, _options, done) => {
    uploadRoute(uploads, services)
    done()
  })
}

function uploadRoute(scope: Scope, { repository, config }: Services): void {
  const { maxModelBytes } = config.server
  scope.removeAllContentTypeParsers()
  scope.register(multipart, { limits: { fileSize: maxModelBytes, files: 33, fields: 3, fieldSize: 64 * 1024, parts: 36 } })
  scope.addContentTypeParser('application/octet-stream', { bodyLimit: maxModelBytes }, (_request, stream, done) => done(null, stream))
  scope.post(
    '/admin/models',
    {
      bodyLimit: maxModelBytes,
      validatorCompiler: bytesPass,
      schema: {
        operationId: 'uploadModel',
        tags,
        summary: 'Upload a model; it is loaded and run in a process of its own before it is admitted',
        description:
          'Either the .onnx file as the body (`application/octet-stream`) with `name` in the query, or `multipart/form-data` with the file `model`, ' +
          'files `data` (external data, under the names the model refers to), and the texts `config` (a model.yaml), `name` and `version`.',
        querystring: Type.Object(
          { name: Type.Optional(Type.String({ description: 'Letters, digits, ".", "_" and "-"; at most 100', examples: ['digits'] })), version },
          strict,
        ),
        consumes: ['application/octet-stream', 'multipart/form-data'],
        body: Type.Unsafe<unknown>({ type: 'string', format: 'binary', examples: ['the bytes of model.onnx'] }),
        response: {
          201: answer('The model, ready to serve; `Location` is where it is', component('Model'), examples.model),
          ...failures('malformed', 'unknown_field', 'conflict', 'too_large', 'unsupported_media', 'invalid_model'),
        },
      },
    },
    (request, reply) =>
      withUpload(request, { directory: join(config.data.directory, 'uploads'), maxBytes: maxModelBytes }, async (upload) => {
        const { modelFile, externalFiles, manifest } = upload
        const name = upload.name ?? request.query.name
        const wanted = upload.version ?? request.query.version
        if (name === undefined)
          throw new FlyweightError('malformed', 'the name is missing', {
            errors: [{ pointer: '/query/name', detail: 'is missing, expected the name of the model' }],
          })
        const model = await repository.add({
          name,
          modelFile,
          ...(wanted !== undefined && { version: wanted }),
          ...(externalFiles.length > 0 && { externalFiles }),
          ...(manifest && { manifest }),
        })
        return reply.code(201).header('location', `/admin/models/${model.name}`).send(modelView(model))
      }),
  )
}

/** A model without the paths of this machine. */
function modelView({ name, version: number, digest, bytes, signature, manifest, labels, samples }: ModelVersion): object {
  return { name, version: number, digest, bytes, signature, manifest, labels: labels?.length ?? 0, hasSamples: samples !== undefined }
}
