// Jobs: asking for a compressed variant or a profile, watching the work (polling or server-sent
// events), cancelling it. What a job does is jobs/'s.
import { PassThrough } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { Job } from '../../jobs/queue.js'
import { answer, component, failures, rawAnswer, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'
import * as examples from './examples.js'
import { variantView } from './variants.js'

const tags = ['admin']
const params = Type.Object({ id: Type.String({ examples: ['0f6a1c2e'] }) }, strict)
const target = { model: Type.String(), version: Type.Optional(Type.String({ description: 'Default: the newest that serves' })) }
const states = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const
const KEEP_ALIVE_MS = 15_000
const FINISHED: readonly string[] = ['succeeded', 'failed', 'cancelled']

/** A job without its payload, which holds paths of this machine. */
function jobView({ payload: _payload, ...job }: Job): object {
  return job
}

export function jobRoutes(scope: Scope, services: Services): void {
  startRoutes(scope, services)
  const { jobs } = services
  const one = { 200: answer('The job', component('Job'), examples.job), ...failures('job_not_found') }
  scope.get(
    '/admin/jobs',
    {
      schema: {
        operationId: 'listJobs',
        tags,
        summary: 'Jobs, newest first',
        querystring: Type.Object(
          { state: Type.Optional(Type.Enum([...states])), kind: Type.Optional(Type.Enum(['compress', 'search', 'profile', 'train', 'shard'])) },
          strict,
        ),
        response: {
          200: answer('The jobs', Type.Object({ jobs: Type.Array(component('Job')) }), { jobs: [examples.job] }),
          ...failures('malformed', 'unknown_field'),
        },
      },
    },
    ({ query }) => ({ jobs: jobs.list(query).map(jobView) }),
  )
  scope.get('/admin/jobs/:id', { schema: { operationId: 'getJob', tags, summary: 'One job', params, response: one } }, (request) =>
    jobView(jobs.get(request.params.id)),
  )
  scope.delete(
    '/admin/jobs/:id',
    { schema: { operationId: 'cancelJob', tags, summary: 'Cancel a job; a finished one stays as it is', params, response: one } },
    (request) => jobView(jobs.cancel(request.params.id)),
  )
  eventRoute(scope, services)
}

function startRoutes(scope: Scope, { builds }: Services): void {
  const accepted = answer('The job; `Location` is where it is', component('Job'), { ...examples.job, state: 'queued' })
  scope.post(
    '/admin/compress',
    {
      schema: {
        operationId: 'compress',
        tags,
        summary: 'Make a cheaper variant of a model',
        description:
          'The same model, recipe and toolchain give the same artifact, which is answered at once when it exists. ' +
          'With an `Idempotency-Key` header a repeated request gets the job of the first.',
        body: Type.Object(
          {
            ...target,
            recipe: Type.Union([Type.String(), Type.Array(Type.Record(Type.String(), Type.Unknown()))], {
              description:
                'A preset (`int8`), a recipe in short (`int8-static(calibration=min-max)+fp16`), a list of passes with their parameters, ' +
                'or `auto`: a search, whose job registers each variant of the Pareto front of latency, bytes and fidelity as soon as it is found',
            }),
            budgetSeconds: Type.Optional(
              Type.Number({
                minimum: 1,
                maximum: 86_400,
                description: 'With `auto`: how long to search; default 60. A candidate in progress at the end may overrun it by one of its steps',
              }),
            ),
          },
          {
            ...strict,
            examples: [
              { model: 'digits', recipe: 'int8' },
              { model: 'digits', recipe: 'auto', budgetSeconds: 60 },
            ],
          },
        ),
        response: {
          200: answer('The variant, which exists already', component('Variant'), examples.variant),
          202: accepted,
          ...failures('malformed', 'unknown_field', 'model_not_found', 'too_large', 'unsupported_media', 'invalid_recipe', 'model_not_ready'),
        },
      },
    },
    ({ body: { model, version, recipe, budgetSeconds }, headers }, reply) => {
      const key = headers['idempotency-key']
      const { job, variant } = builds.compress(
        { model, recipe, ...(version !== undefined && { version }), ...(budgetSeconds !== undefined && { budgetSeconds }) },
        typeof key === 'string' && key !== '' ? { idempotencyKey: key } : {},
      )
      if (variant) return reply.code(200).send(variantView(variant))
      if (!job) throw new FlyweightError('internal', 'the build gave neither a job nor a variant')
      return accept(reply, job)
    },
  )
  scope.post(
    '/admin/profile',
    {
      schema: {
        operationId: 'profile',
        tags,
        summary: 'Measure all variants of a model on this machine again',
        body: Type.Object(target, { ...strict, examples: [{ model: 'digits' }] }),
        response: { 202: accepted, ...failures('malformed', 'unknown_field', 'model_not_found', 'too_large', 'unsupported_media', 'model_not_ready') },
      },
    },
    ({ body: { model, version } }, reply) => accept(reply, builds.profile(model, version)),
  )
}

/** Answers with a job that was submitted. */
export function accept(reply: FastifyReply, job: Job): FastifyReply {
  return reply.code(202).header('location', `/admin/jobs/${job.id}`).send(jobView(job))
}

/** https://html.spec.whatwg.org/multipage/server-sent-events.html */
function eventRoute(scope: Scope, { jobs }: Services): void {
  const open = new Set<PassThrough>()
  // Streams that wait for a job must not keep the server from closing.
  scope.addHook('preClose', (done) => {
    for (const stream of open) stream.end()
    done()
  })
  scope.get(
    '/admin/jobs/:id/events',
    {
      schema: {
        operationId: 'watchJob',
        tags,
        summary: 'Progress as server-sent events: `progress` on every change, `done` at the end',
        params,
        response: { 200: rawAnswer('Events', 'text/event-stream', examples.events), ...failures('job_not_found') },
      },
    },
    (request, reply) => {
      const { id } = request.params
      const stream = new PassThrough()
      let logged = 0
      const show = (job: Job): void => {
        const { state, progress, log } = job
        const news = log.slice(logged)
        logged = log.length
        if (stream.writableEnded) return
        stream.write(event('progress', { id, state, progress, log: news }))
        if (FINISHED.includes(state)) stream.end(event('done', jobView(job)))
      }
      const first = jobs.get(id)
      const unwatch = jobs.watch(id, show)
      const keepAlive = setInterval(() => stream.write(': still here\n\n'), KEEP_ALIVE_MS)
      open.add(stream)
      stream.once('close', () => {
        clearInterval(keepAlive)
        unwatch()
        open.delete(stream)
      })
      show(first)
      return reply.header('cache-control', 'no-cache').type('text/event-stream').send(stream)
    },
  )
}

function event(name: string, data: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
}
