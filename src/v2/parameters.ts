// Parameters of v2 requests, the same in JSON and over gRPC: the SLA of a request, the pinned variant, and
// what an output becomes. Each door adds those of its own form.
import { Type, type Static } from 'typebox'
import type { Sla } from '../registry/manifest.js'

/** Fields of a request's `parameters`. */
export const requestParameters = {
  sla_ms: Type.Optional(Type.Number({ exclusiveMinimum: 0, description: 'Deadline in milliseconds from arrival' })),
  min_fidelity: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
  priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 9, description: 'Higher goes first' })),
  on_miss: Type.Optional(Type.Enum(['degrade', 'reject', 'wait'])),
  variant: Type.Optional(Type.String({ description: 'Pins one variant by name' })),
}
export type RequestParameters = Static<ReturnType<typeof Type.Object<typeof requestParameters>>>

/** Fields of an output's `parameters`. */
export const outputParameters = {
  classification: Type.Optional(Type.Integer({ minimum: 1, description: 'The N highest values as `value:index[:label]`' })),
}

/** The SLA that the parameters ask for; what they leave out is the model's default. */
export function slaOf({ sla_ms: latencyMs, min_fidelity: minFidelity, priority, on_miss: onMiss }: RequestParameters): Sla {
  return {
    ...(latencyMs !== undefined && { latencyMs }),
    ...(minFidelity !== undefined && { minFidelity }),
    ...(priority !== undefined && { priority }),
    ...(onMiss !== undefined && { onMiss }),
  }
}
