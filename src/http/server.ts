// The HTTP door: one Fastify server, its limits and its scopes. Routes are in the files beside it; what
// they may use is services.ts; every error leaves through problem.ts.
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { fastify, LogController, type FastifyInstance } from 'fastify'
import { FlyweightError } from '../errors.js'
import { adminRoutes } from './admin/routes.js'
import { healthRoutes } from './health.js'
import { inferRoutes } from './infer.js'
import { describeRoutes, serveDocs } from './openapi.js'
import { answerProblem, answerProblemV2, answerUnreadable } from './problem.js'
import type { Scope, Services } from './services.js'
import { v2InferRoutes } from './v2/infer.js'
import { v2MetadataRoutes } from './v2/metadata.js'
import { v2RepositoryRoutes } from './v2/repository.js'
import { validatorCompiler } from './validation.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** performance.now() when the request's head was read: deadlines count from here. */
    arrivedAt: number
  }
}

/** Bodies that are not tensors or models. */
const MAX_JSON_BYTES = 2 ** 20
/** A whole request, uploads included: a client that trickles bytes is cut off. */
const REQUEST_TIMEOUT_MS = 600_000

/** Builds the server; it listens when the caller says so. Routes touch the services only when they are called. */
export function buildServer(services: Services): FastifyInstance {
  const { logger } = services
  const server = fastify({
    loggerInstance: logger,
    // One log object for all: a child per request costs more than the rest of the hook chain.
    childLoggerFactory: (parent) => parent,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestId,
    bodyLimit: MAX_JSON_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 256 },
    frameworkErrors: answerProblem,
    clientErrorHandler: answerUnreadable,
  })
  server.setValidatorCompiler(validatorCompiler)
  server.setSerializerCompiler(() => JSON.stringify)
  server.setErrorHandler(answerProblem)
  server.removeContentTypeParser('text/plain')
  const methods = collectMethods(server)
  server.setNotFoundHandler((request, reply) => {
    const allowed = methods(request.url)
    if (allowed.length === 0) throw new FlyweightError('not_found', `there is no ${request.method} ${request.url}; see /docs`)
    reply.header('allow', allowed.join(', '))
    throw new FlyweightError('method_not_allowed', `${request.url} takes ${allowed.join(', ')}, not ${request.method}`)
  })

  server.decorateRequest('arrivedAt', 0)
  server.addHook('onRequest', (request, reply, done) => {
    request.arrivedAt = performance.now()
    reply.header('x-request-id', request.id).header('x-content-type-options', 'nosniff')
    done()
  })
  if (logger.level === 'debug' || logger.level === 'trace') logEveryRequest(server)

  describeRoutes(server, services.version)
  serveDocs(server)
  addScope(server, (scope) => inferRoutes(scope, services))
  addScope(server, (scope) => {
    acceptAnyBody(scope)
    scope.setErrorHandler(answerProblemV2)
    v2InferRoutes(scope, services)
    v2MetadataRoutes(scope, services)
    v2RepositoryRoutes(scope, services)
  })
  addScope(server, (scope) => {
    healthRoutes(scope, services)
    adminRoutes(scope, services)
  })
  return server
}

function addScope(server: FastifyInstance, routes: (scope: Scope) => void): void {
  server.register((scope, _options, done) => {
    routes(scope)
    done()
  })
}

/** v2 clients send no Content-Type, or an odd one: every body is bytes there, and the headers say what they mean. */
function acceptAnyBody(scope: Scope): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  // What is not even a media type is refused before a parser is looked for.
  scope.addHook('onRequest', ({ headers }, _reply, done) => {
    if (headers['content-type'] !== undefined) headers['content-type'] = 'application/octet-stream'
    done()
  })
}

/** The client's own id where it is a plain token, so that logs can be joined; else a new one. */
function requestId({ headers }: { headers: IncomingMessage['headers'] }): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
}

function logEveryRequest(server: FastifyInstance): void {
  server.addHook('onResponse', (request, reply, done) => {
    request.log.debug({ reqId: request.id, method: request.method, url: request.url, status: reply.statusCode, ms: reply.elapsedTime }, 'request')
    done()
  })
}

/** Which methods a path takes, for 405; looked up only when no route matched. */
function collectMethods(server: FastifyInstance): (url: string) => string[] {
  const routes: { pattern: RegExp; methods: string[] }[] = []
  server.addHook('onRoute', ({ url, method }) => {
    const pattern = url
      .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
      .replace(/:[^/]+/g, '[^/]+')
      .replaceAll('*', '.*')
    routes.push({ pattern: new RegExp(`^${pattern}$`), methods: Array.isArray(method) ? method : [method] })
  })
  return (url) => {
    const path = url.split('?', 1)[0] as string
    return [...new Set(routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods))].sort()
  }
}
