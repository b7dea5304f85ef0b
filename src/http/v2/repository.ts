// Triton's model repository extension: index, load, unload. Bodies arrive as bytes and may be absent.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { answer, component, emptyAnswer, failures } from '../answers.js'
import { bodyOf } from '../body.js'
import type { Scope, Services } from '../services.js'
import { checkOf, type Check } from '../../wire/check.js'
import { bytesPass } from '../validation.js'
import { parseJson } from '../../wire/json-read.js'
import * as examples from './examples.js'
import { ModelParams } from './params.js'
import { RepositoryIndexBody, RepositoryLoadBody } from './schemas.js'

const checkIndex = checkOf(RepositoryIndexBody)
const checkLoad = checkOf(RepositoryLoadBody)
const tags = ['v2']
const MAX_BYTES = 64 * 1024

export function v2RepositoryRoutes(scope: Scope, { repository }: Services): void {
  scope.post(
    '/v2/repository/index',
    {
      validatorCompiler: bytesPass,
      schema: {
        operationId: 'v2RepositoryIndex',
        tags,
        summary: 'Every model version and its state',
        body: Type.Unsafe<Buffer>({ ...RepositoryIndexBody, examples: [{ ready: true }] }),
        response: {
          200: answer('The models', component('V2RepositoryIndex'), examples.repositoryIndex),
          ...failures('malformed', 'unknown_field', 'too_large'),
        },
      },
    },
    async (request) => {
      const { ready } = (await optionalBody(request, checkIndex)) as { ready?: boolean }
      return repository.list().filter(({ state }) => ready !== true || state === 'READY')
    },
  )
  const change = (action: 'load' | 'unload', summary: string) =>
    scope.post(
      `/v2/repository/models/:model/${action}`,
      {
        validatorCompiler: bytesPass,
        schema: {
          operationId: action === 'load' ? 'v2RepositoryLoad' : 'v2RepositoryUnload',
          tags,
          summary,
          params: ModelParams,
          body: Type.Unsafe<Buffer>({ ...RepositoryLoadBody, examples: [{}] }),
          response: { 200: emptyAnswer('Done'), ...failures('malformed', 'unknown_field', 'model_not_found', 'too_large', 'invalid_model') },
        },
      },
      async (request, reply) => {
        await optionalBody(request, checkLoad)
        await repository[action](request.params.model)
        return reply.code(200).send()
      },
    )
  change('load', 'Load a model, or look again at its folder')
  change('unload', 'Stop serving a model; its files stay')
}

async function optionalBody(request: FastifyRequest, check: Check): Promise<unknown> {
  const bytes = await bodyOf(request, MAX_BYTES)
  if (bytes.byteLength === 0) return {}
  const { value } = parseJson(bytes)
  check(value)
  return value
}
