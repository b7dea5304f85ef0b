// Liveness, readiness, metrics and the signpost at /.
import { Type } from 'typebox'
import { FlyweightError } from '../errors.js'
import { answer, failures, rawAnswer } from './answers.js'
import type { Scope, Services } from './services.js'

const links = {
  docs: '/docs',
  openapi: '/docs/json',
  health: '/healthz',
  ready: '/readyz',
  metrics: '/metrics',
  infer: '/infer',
  models: '/admin/models',
  v2: '/v2',
}
const tags = ['health']

const metricsExample = `# HELP flyweight_resident_bytes Bytes of variants in memory
# TYPE flyweight_resident_bytes gauge
flyweight_resident_bytes 14200000
`

export function healthRoutes(scope: Scope, { gateway, metrics, version }: Services): void {
  const home = { name: 'flyweight', version, links }
  scope.get(
    '/',
    {
      schema: {
        operationId: 'home',
        tags,
        summary: 'Where everything is',
        response: {
          200: answer('Links', Type.Object({ name: Type.String(), version: Type.String(), links: Type.Record(Type.String(), Type.String()) }), home),
          ...failures(),
        },
      },
    },
    () => home,
  )
  scope.get(
    '/healthz',
    {
      exposeHeadRoute: true,
      schema: {
        operationId: 'health',
        tags,
        summary: 'Is the process alive',
        response: { 200: answer('It is', Type.Object({ status: Type.Literal('ok') }), { status: 'ok' }), ...failures() },
      },
    },
    () => ({ status: 'ok' }) as const,
  )
  scope.get(
    '/readyz',
    {
      exposeHeadRoute: true,
      schema: {
        operationId: 'ready',
        tags,
        summary: 'Can it take requests: a model is ready and it is not shutting down',
        response: { 200: answer('It can', Type.Object({ status: Type.Literal('ready') }), { status: 'ready' }), ...failures('model_not_ready') },
      },
    },
    () => {
      if (!gateway.ready()) throw new FlyweightError('model_not_ready', 'no model is ready yet, or the gateway is shutting down')
      return { status: 'ready' } as const
    },
  )
  scope.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        tags,
        summary: 'Prometheus metrics',
        response: { 200: rawAnswer('Text exposition format 0.0.4', 'text/plain', metricsExample), ...failures() },
      },
    },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  )
}
