// The picture of a sharded variant's plan; the same figures are in the variant. How it is drawn is chart/'s.
import { Type } from 'typebox'
import { shardPlot } from '../../chart/shard-plot.js'
import { FlyweightError } from '../../errors.js'
import type { Variant } from '../../registry/model.js'
import { failures, rawAnswer, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'
import { variantOf } from './variants.js'

const MEDIA_TYPE = 'image/svg+xml'
const EXAMPLE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 480">…</svg>'

export function planPlotRoute(scope: Scope, { catalog }: Services): void {
  scope.get(
    '/admin/variants/:id/plan.svg',
    {
      schema: {
        operationId: 'plotPlan',
        tags: ['admin'],
        summary: 'Stages of a sharded variant as a picture: where they run, what passes between them, and who works when',
        params: Type.Object({ id: Type.String({ examples: ['digits:1:sharded-2'] }) }, strict),
        response: { 200: rawAnswer('The plot', MEDIA_TYPE, EXAMPLE), ...failures('variant_not_found', 'not_found') },
      },
    },
    ({ params: { id } }, reply) =>
      reply
        .header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
        .header('cache-control', 'no-cache')
        .type(MEDIA_TYPE)
        .send(plotOf(variantOf(catalog, id))),
  )
}

function plotOf({ id, shards }: Variant): string {
  if (shards === undefined) throw new FlyweightError('not_found', `${id} has no plan: it is whole, expected a variant that POST /admin/shard made`)
  const { stages, microBatches } = shards.plan
  const plotted = stages.map(({ device, weightBytes, computeMs, transferMs, reads }) => ({ device, weightBytes, ms: computeMs + transferMs, reads }))
  return shardPlot({ stages: plotted, microBatches }, { title: id })
}
