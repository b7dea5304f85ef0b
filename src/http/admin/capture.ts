// Captured traffic of a model: how much there is, and its removal. Whether a model is captured is said in its model.yaml.
import { Type } from 'typebox'
import { answer, component, emptyAnswer, failures, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'
import * as examples from './examples.js'

const tags = ['admin']
const params = Type.Object({ name: Type.String({ examples: ['digits'] }) }, strict)
const querystring = Type.Object({ version: Type.Optional(Type.String({ description: 'A whole number; default the newest served', examples: ['1'] })) }, strict)
const failing = failures('malformed', 'unknown_field', 'model_not_found', 'model_not_ready')

export function captureRoutes(scope: Scope, { repository, capture }: Services): void {
  scope.get(
    '/admin/models/:name/capture',
    {
      schema: {
        operationId: 'getCapture',
        tags,
        summary: 'How many rows of a model’s traffic are kept for calibration and evaluation',
        params,
        querystring,
        response: { 200: answer('The sample of its traffic', component('Capture'), examples.capture), ...failing },
      },
    },
    ({ params: { name }, query: { version } }) => capture.status(repository.resolve(name, version)),
  )
  scope.delete(
    '/admin/models/:name/capture',
    {
      schema: {
        operationId: 'deleteCapture',
        tags,
        summary: 'Delete the captured rows of a model; capture begins anew where it is on',
        params,
        querystring,
        response: { 204: emptyAnswer('Deleted'), ...failing },
      },
    },
    async ({ params: { name }, query: { version } }, reply) => {
      await capture.clear(repository.resolve(name, version))
      return reply.code(204).send()
    },
  )
}
