// Bodies of POST /infer: the schema that is checked, and the schemas and examples that document it.
import { Type, type Static } from 'typebox'
import { SlaSchema } from '../registry/manifest.js'
import { dtypes } from '../tensor/tensor.js'
import { component, strict } from './answers.js'

const dtype = Type.Enum(Object.keys(dtypes), { description: 'Default: the one the model declares' })

const fields = {
  model: Type.String({ description: 'Name of the model' }),
  version: Type.Optional(Type.String({ description: 'Default: the newest that serves' })),
  sla: Type.Optional(SlaSchema),
  outputs: Type.Optional(Type.Array(Type.String(), { description: 'Default: all' })),
  variant: Type.Optional(Type.String({ description: 'Pins one variant by name, in place of routing' })),
  encoding: Type.Optional(Type.Enum(['json', 'base64'], { description: 'How the answer carries its numbers; default json' })),
}

/** What is checked: tensors are read by the wire, which knows the model. */
export const InferBody = Type.Object({ ...fields, inputs: Type.Record(Type.String(), Type.Unknown()) }, strict)
export type InferBody = Static<typeof InferBody>

/** What is documented: the same, with the forms an input may have. */
export const InferRequest = Type.Object(
  {
    ...fields,
    inputs: Type.Record(
      Type.String(),
      Type.Union([
        component('Tensor'),
        Type.Array(Type.Unknown(), { description: 'A nested array, whose nesting is the shape' }),
        Type.Unknown({ description: 'A bare value for a scalar' }),
      ]),
      { description: 'By name, one entry for every input of the model' },
    ),
  },
  strict,
)

export const inferComponents = {
  Tensor: Type.Object(
    {
      shape: Type.Array(Type.Integer({ minimum: 0 })),
      dtype: Type.Optional(dtype),
      data: Type.Union([
        Type.Array(Type.Unknown(), {
          description:
            'Flat (row-major) or nested. Floats: numbers, "NaN", "Infinity", "-Infinity". 64-bit integers: numbers in plain digits, read without loss, or decimal strings. Booleans: true and false, or 1 and 0',
        }),
        Type.String({ description: 'Base64 of the little-endian elements; for strings a u32 length and the bytes of each', contentEncoding: 'base64' }),
      ]),
    },
    { ...strict, description: 'A tensor with its shape' },
  ),
  Considered: Type.Object({
    variant: Type.String(),
    fidelity: Type.Number(),
    state: Type.String(),
    resident: Type.Boolean(),
    predictedMs: Type.Optional(Type.Number({ description: 'p99 of one run at the batch size considered, where it is known' })),
    chosen: Type.Boolean(),
    reason: Type.String({ description: 'Why it was or was not chosen' }),
  }),
  InferAnswer: Type.Object({
    id: Type.String({ description: 'Id of the request' }),
    model: Type.String(),
    version: Type.String(),
    variant: Type.String({ description: 'The variant that answered' }),
    outputs: Type.Record(Type.String(), component('Tensor')),
    fidelity: Type.Number({ description: '0..1, how close the variant is to the source model' }),
    timing: Type.Object({ queueMs: Type.Number(), inferMs: Type.Number(), totalMs: Type.Number(), batchSize: Type.Integer() }),
    route: Type.Object({
      reason: Type.String(),
      deadlineMet: Type.Boolean(),
      considered: Type.Optional(Type.Array(component('Considered'), { description: 'With ?explain=1: every variant and why not' })),
    }),
  }),
}

export const consideredExample = [
  { variant: 'fp32', fidelity: 1, state: 'ready', resident: true, predictedMs: 41.2, chosen: false, reason: 'predicted 41.2 ms, the deadline leaves 25 ms' },
  { variant: 'int8', fidelity: 0.983, state: 'ready', resident: true, predictedMs: 17.9, chosen: true, reason: 'the most faithful that meets the deadline' },
]

export const inferRequestExample = {
  model: 'scale',
  inputs: { x: { shape: [1, 4], dtype: 'float32', data: [1, 2, 3, 4] } },
  sla: { latencyMs: 25, minFidelity: 0.95, priority: 1, onMiss: 'degrade' },
  outputs: ['y'],
}

export const inferAnswerExample = {
  id: '3f2a9c60-1',
  model: 'scale',
  version: '1',
  variant: 'int8',
  outputs: { y: { shape: [1, 4], dtype: 'float32', data: [2, 4, 6, 8] } },
  fidelity: 0.983,
  timing: { queueMs: 0.4, inferMs: 17.1, totalMs: 18.2, batchSize: 4 },
  route: { reason: 'the most faithful variant that meets the deadline', deadlineMet: true, considered: consideredExample },
}
