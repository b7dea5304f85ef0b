// Building blocks for the `response` part of route schemas: what an answer looks like, with an example,
// and which errors a route may give. They document only; serialization is JSON.stringify.
import { Type, type TSchema } from 'typebox'
import { errorTable, FlyweightError, type ErrorCode } from '../errors.js'
import { PROBLEM_TYPE, problemOf } from './problem.js'

interface Answer {
  description: string
  type?: 'null'
  content?: Record<string, { schema: unknown; example: unknown }>
}

export const strict = { additionalProperties: false } as const

/** A schema of `components.schemas`, see openapi.ts. */
export function component(name: string): TSchema {
  return Type.Unsafe({ $ref: `#/components/schemas/${name}` })
}

/** One media type's answer; `more` adds further media types. */
export function answer(description: string, schema: TSchema, example: unknown, more: Record<string, { schema: unknown; example: unknown }> = {}): Answer {
  return { description, content: { 'application/json': { schema, example }, ...more } }
}

/** An answer that is not JSON. */
export function rawAnswer(description: string, mediaType: string, example: string): Answer {
  return { description, content: { [mediaType]: { schema: Type.String(), example } } }
}

export const binaryMedia = {
  'application/octet-stream': {
    schema: { type: 'string', format: 'binary' },
    example: '{"model_name":…,"outputs":[…]} followed by the raw bytes of the outputs',
  },
} as const

/** An answer without content. */
export function emptyAnswer(description: string): Answer {
  return { type: 'null', description }
}

/** What errors of each code say, for the documentation. */
const EXAMPLES: Partial<Record<ErrorCode, readonly [detail: string, pointer?: string, field?: string]>> = {
  malformed: ['/inputs is missing', '/inputs', 'is missing'],
  unknown_field: ['/input is not a field here; expected model, inputs', '/input', 'is not a field here; expected model, inputs'],
  not_found: ['there is no GET /infre'],
  model_not_found: ['there is no model "digit"'],
  variant_not_found: ['there is no variant digits:1:int4'],
  job_not_found: ['there is no job 0f6a1c2e'],
  conflict: ['version 1 of "digits" exists already'],
  too_large: ['Request body is too large'],
  unsupported_media: ['Unsupported Media Type: text/plain'],
  invalid_input: [
    '/inputs/x came with shape [1, 28, 28], expected [batch, 1, 28, 28]',
    '/inputs/x',
    'came with shape [1, 28, 28], expected [batch, 1, 28, 28]',
  ],
  invalid_recipe: ['/recipe is "int3", expected a preset (int8, fp16) or passes', '/recipe', 'is "int3", expected a preset (int8, fp16) or passes'],
  invalid_model: ['the file is not an ONNX model: it ends inside a field'],
  cancelled: ['the client left'],
  inference_failed: ['the model failed on this input'],
  model_not_ready: ['"digits" is loading'],
  overloaded: ['4096 rows wait for "digits"; try again in 2 s'],
  sla_unmet: ['no variant of "digits" with fidelity 0.99 or more answers within 1 ms'],
  out_of_memory: ['digits:1:fp32 needs 402653184 bytes, the budget is 268435456'],
  draining: ['the gateway is shutting down'],
  deadline_passed: ['the deadline passed after 40 ms in the queue'],
  run_timeout: ['the run took longer than 60000 ms'],
}

function problemExample(code: ErrorCode): unknown {
  const [detail, pointer, field] = EXAMPLES[code] ?? [errorTable[code].title]
  return problemOf(new FlyweightError(code, detail, pointer === undefined ? {} : { errors: [{ pointer, detail: field ?? detail }] }), '3f2a9c60-1')
}

/** What can go wrong with any inference, by whichever protocol it comes. */
export const INFERENCE_FAILURES = [
  'malformed',
  'unknown_field',
  'model_not_found',
  'variant_not_found',
  'too_large',
  'unsupported_media',
  'inference_failed',
  'overloaded',
  'sla_unmet',
  'model_not_ready',
  'out_of_memory',
  'draining',
  'deadline_passed',
  'run_timeout',
] as const satisfies readonly ErrorCode[]

/** The errors of a route by status; a status shared by several codes names them all. `internal` is added everywhere. */
export function failures(...codes: ErrorCode[]): Record<number, Answer> {
  const answers: Record<number, Answer> = {}
  for (const code of [...codes, 'internal'] as ErrorCode[]) {
    const { status, title } = errorTable[code]
    const line = `\`${code}\`: ${title}`
    const known = answers[status]
    if (known) known.description += `; ${line}`
    else answers[status] = { description: line, content: { [PROBLEM_TYPE]: { schema: component('Problem'), example: problemExample(code) } } }
  }
  return answers
}
