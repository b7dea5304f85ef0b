// What a student may be, as JSON: a network that is built, another model, or the teacher made smaller. Who finds that model
// and makes the teacher smaller is not this file's business.
import { Type, type Static } from 'typebox'
import { networkSchemas } from './networks.js'
import { completeOptions, optionError } from './options.js'

const share = (description: string) => Type.Optional(Type.Number({ exclusiveMinimum: 0, exclusiveMaximum: 1, description }))

const studentSchemas = {
  ...networkSchemas,
  model: Type.Object(
    {
      kind: Type.Literal('model'),
      model: Type.String({ minLength: 1, description: 'Name of a served model' }),
      version: Type.Optional(Type.String({ description: 'Default: the newest that serves' })),
    },
    { additionalProperties: false, description: 'A model that exists, trained from its weights on; its inputs, and the dims of its output, are the teacher’s' },
  ),
  shrink: Type.Object(
    {
      kind: Type.Literal('shrink'),
      width: share('Share of the channels, neurons and heads that stay: those whose weights are largest'),
      depth: share('Share of the residual blocks that stay, evenly spread'),
    },
    { additionalProperties: false, description: 'The teacher made narrower, shallower, or both' },
  ),
}

export const StudentSchema = Type.Union(Object.values(studentSchemas), { description: 'What learns' })

export type StudentSpec = Static<(typeof studentSchemas)[keyof typeof studentSchemas]>
export type ShrinkSpec = Extract<StudentSpec, { kind: 'shrink' }>

/** @throws FlyweightError `invalid_input` that names the field, what came and what was expected */
export function completeStudent(given: unknown, pointer = '/student'): StudentSpec {
  const spec = completeOptions(studentSchemas, given, pointer)
  if (spec.kind === 'shrink' && spec.width === undefined && spec.depth === undefined)
    throw optionError(pointer, 'got shrink without width and depth, expected at least one of them, above 0 and below 1')
  return spec
}
