// The OpenAPI 3.1 description and its user interface under /docs, made from the routes' own schemas.
// The committed copy, docs/openapi.json, is written by scripts/openapi.mjs and compared in a test.
import helmet from '@fastify/helmet'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { errorTable, type ErrorCode } from '../errors.js'
import { adminComponents } from './admin/schemas.js'
import { inferComponents } from './infer-schema.js'
import { v2Components } from './v2/schemas.js'

const problem = Type.Object(
  {
    type: Type.String({ description: '`urn:flyweight:error:<code>`' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'Which field, what came, what was expected' }),
    instance: Type.String({ description: '`urn:flyweight:request:<request id>`' }),
    code: Type.Enum(Object.keys(errorTable) as ErrorCode[]),
    errors: Type.Optional(
      Type.Array(
        Type.Object({ pointer: Type.String({ description: 'JSON pointer; /query, /params and /headers lead outside the body' }), detail: Type.String() }),
      ),
    ),
    error: Type.String({ description: 'The detail again, for clients of the v2 protocol' }),
  },
  { description: 'RFC 9457 problem details' },
)

/** Must be called before routes are added: it collects them as they come. */
export function describeRoutes(server: FastifyInstance, version: string): void {
  server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Flyweight',
        version,
        license: { name: 'MIT', identifier: 'MIT' },
        description:
          'An inference gateway that makes and measures cheaper variants of an ONNX model and answers each request with the best one that meets its latency SLA.',
      },
      tags: [
        { name: 'inference', description: 'The simple door' },
        { name: 'v2', description: 'Open Inference Protocol v2 with the binary, classification, statistics, configuration and repository extensions' },
        { name: 'admin', description: 'Models, variants, jobs, memory and routing' },
        { name: 'health', description: 'Is it alive, is it ready, what does it measure' },
      ],
      components: { schemas: { Problem: problem, ...inferComponents, ...v2Components, ...adminComponents } as never },
    },
    hideUntagged: true,
  })
}

/** The user interface, with the headers a browser should see; its content policy allows its own files only. */
export function serveDocs(server: FastifyInstance): void {
  server.register(async (scope) => {
    await scope.register(helmet, { contentSecurityPolicy: false, hsts: false })
    await scope.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      uiConfig: { tryItOutEnabled: true, displayRequestDuration: true, docExpansion: 'list' },
    })
  })
}
