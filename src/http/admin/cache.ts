// What is in memory and why, and what the router would do with a request.
import { Type } from 'typebox'
import type { Sla } from '../../registry/manifest.js'
import { answer, component, failures, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'
import { variantOf } from './variants.js'
import * as examples from './examples.js'

const tags = ['admin']

export function cacheRoutes(scope: Scope, { gateway, catalog }: Services): void {
  scope.get(
    '/admin/cache',
    {
      schema: {
        operationId: 'getCache',
        tags,
        summary: 'Variants in memory, and the budget',
        response: { 200: answer('The cache', component('Cache'), examples.cache), ...failures() },
      },
    },
    () => gateway.cache(),
  )
  scope.delete(
    '/admin/cache',
    {
      schema: {
        operationId: 'evict',
        tags,
        summary: 'Evict one variant, or all that nothing uses now',
        querystring: Type.Object(
          { variant: Type.Optional(Type.String({ description: 'Id of the variant; default all', examples: ['digits:1:int8'] })) },
          strict,
        ),
        response: {
          200: answer('How many copies left memory', Type.Object({ evicted: Type.Integer() }), { evicted: 1 }),
          ...failures('malformed', 'unknown_field', 'variant_not_found'),
        },
      },
    },
    async (request) => {
      const { variant } = request.query
      if (variant !== undefined) variantOf(catalog, variant)
      return { evicted: await gateway.evict(variant) }
    },
  )
  scope.get(
    '/admin/routes/explain',
    {
      schema: {
        operationId: 'explainRoute',
        tags,
        summary: 'Dry run of the router: which variant would answer now, and why not the others',
        querystring: Type.Object(
          {
            model: Type.String({ examples: ['digits'] }),
            version: Type.Optional(Type.String()),
            slaMs: Type.Optional(Type.Number({ exclusiveMinimum: 0, description: 'Deadline in milliseconds from arrival' })),
            minFidelity: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
            priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 9 })),
            onMiss: Type.Optional(Type.Enum(['degrade', 'reject', 'wait'])),
            variant: Type.Optional(Type.String({ description: 'Pins one variant by name' })),
            rows: Type.Optional(Type.Integer({ minimum: 1, description: 'Rows of the request; default 1' })),
          },
          strict,
        ),
        response: {
          200: answer('The decision', component('RouteExplanation'), examples.explanation),
          ...failures('malformed', 'unknown_field', 'model_not_found', 'variant_not_found', 'model_not_ready'),
        },
      },
    },
    ({ query: { model, version, variant, rows, ...query } }) =>
      gateway.explain({
        model,
        sla: slaOf(query),
        ...(version !== undefined && { version }),
        ...(variant !== undefined && { variant }),
        ...(rows !== undefined && { rows }),
      }),
  )
}

function slaOf({ slaMs, ...rest }: Omit<Sla, 'latencyMs'> & { slaMs?: number }): Sla {
  return { ...rest, ...(slaMs !== undefined && { latencyMs: slaMs }) }
}
