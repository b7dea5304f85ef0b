// The picture of what a search has found, or of how a training goes, for people; the same figures are in the job's result.
// How it is drawn is chart/'s.
import { Type } from 'typebox'
import { paretoPlot } from '../../chart/pareto-plot.js'
import { trainingPlot } from '../../chart/training-plot.js'
import { FlyweightError } from '../../errors.js'
import type { Job } from '../../jobs/queue.js'
import type { SearchJobResult } from '../../jobs/search-job.js'
import type { ShownTraining } from '../../jobs/train-job.js'
import { failures, rawAnswer, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'

const MEDIA_TYPE = 'image/svg+xml'
const EXAMPLE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 640">…</svg>'

export function jobPlotRoute(scope: Scope, { jobs }: Services): void {
  scope.get(
    '/admin/jobs/:id/plot.svg',
    {
      schema: {
        operationId: 'plotJob',
        tags: ['admin'],
        summary:
          'A job as a picture, while it runs as far as it has come: the Pareto front of a search (recipe `auto`), latency against fidelity and bytes as area; the curve of a training',
        params: Type.Object({ id: Type.String({ examples: ['0f6a1c2e'] }) }, strict),
        response: { 200: rawAnswer('The plot', MEDIA_TYPE, EXAMPLE), ...failures('job_not_found', 'not_found') },
      },
    },
    ({ params: { id } }, reply) => {
      const plot = plotOf(jobs.get(id))
      // The picture has a style of its own, and needs nothing else.
      return reply
        .header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
        .header('cache-control', 'no-cache')
        .type(MEDIA_TYPE)
        .send(plot)
    },
  )
}

function plotOf({ id, kind, state, result }: Job): string {
  if (kind === 'search') {
    const report = (result as SearchJobResult | null | undefined)?.report
    if (report === undefined) throw new FlyweightError('not_found', `job ${id} has no plot: it is ${state}, and no candidate has been measured`)
    return paretoPlot(report)
  }
  if (kind === 'train') {
    const curve = (result as Partial<ShownTraining> | null | undefined)?.curve
    if (curve === undefined) throw new FlyweightError('not_found', `job ${id} has no plot: it is ${state}, and no epoch has ended`)
    return trainingPlot(curve)
  }
  throw new FlyweightError('not_found', `job ${id} has no plot: its kind is ${kind}, expected search (recipe auto) or train`)
}
