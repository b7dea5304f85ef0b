// Checks of requests against their TypeBox schemas, with errors that name the field, what came and what
// was expected. Compiled once per schema, on first use.
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import type { TLocalizedValidationError } from 'typebox/error'
import { FlyweightError, type FieldError } from '../errors.js'
import { describe, pointerToken } from './describe.js'
import { meantBy, type AnySchema } from './request-schemas.js'

/** Throws FlyweightError `unknown_field` or `malformed` where a value does not fit. */
export type Check = (value: unknown) => void

/** @param root pointer of the value in the request: empty for a body */
export function checkOf(schema: TSchema, root = ''): Check {
  let compiled: ReturnType<typeof Compile<TSchema>> | undefined
  return (value) => {
    compiled ??= Compile(schema)
    if (compiled.Check(value)) return
    const meant = meantBy(schema, value) as TSchema
    throw refusal(meant, value, Compile(meant).Errors(value), root)
  }
}

function refusal(schema: TSchema, value: unknown, errors: readonly TLocalizedValidationError[], root: string): FlyweightError {
  // Of a union's errors only the union's own says what was expected.
  const unions = errors.filter(({ keyword }) => keyword === 'anyOf').map(({ instancePath }) => instancePath)
  const fields = errors
    .filter(({ keyword, instancePath }) => keyword === 'anyOf' || !unions.some((path) => instancePath.startsWith(path)))
    .flatMap((error) => fieldErrors(schema as AnySchema, value, error))
    .map(({ pointer, detail }) => ({ pointer: root + pointer, detail }))
  const unknown = errors.some(({ keyword }) => keyword === 'additionalProperties')
  const known = fields.length > 0 ? fields : [{ pointer: root, detail: `is ${describe(value)}, which does not fit` }]
  return new FlyweightError(unknown ? 'unknown_field' : 'malformed', known.map(({ pointer, detail }) => `${pointer || 'the body'} ${detail}`).join('; '), {
    errors: known,
  })
}

function fieldErrors(schema: AnySchema, root: unknown, error: TLocalizedValidationError): FieldError[] {
  const { instancePath: pointer } = error
  const came = () => describe(valueAt(root, pointer))
  switch (error.keyword) {
    case 'boolean':
      return []
    case 'additionalProperties': {
      const known = Object.keys(schemaAt(schema, error.schemaPath)?.properties ?? {})
      const expected = known.length === 0 ? 'no fields are expected' : `expected ${known.join(', ')}`
      return error.params.additionalProperties.map((name) => ({ pointer: `${pointer}/${pointerToken(name)}`, detail: `is not a field here; ${expected}` }))
    }
    case 'required':
      return error.params.requiredProperties.map((name) => ({ pointer: `${pointer}/${pointerToken(name)}`, detail: 'is missing' }))
    case 'type':
      return [{ pointer, detail: `is ${came()}, expected ${String(error.params.type)}` }]
    case 'enum':
      return [{ pointer, detail: `is ${came()}, expected one of ${error.params.allowedValues.map((allowed) => JSON.stringify(allowed)).join(', ')}` }]
    case 'const':
      return [{ pointer, detail: `is ${came()}, expected ${JSON.stringify(error.params.allowedValue)}` }]
    case 'anyOf':
      return [{ pointer, detail: `is ${came()}, which is none of the kinds allowed here` }]
    default:
      return [{ pointer, detail: `is ${came()}: it ${error.message}` }]
  }
}

function valueAt(root: unknown, pointer: string): unknown {
  return steps(pointer).reduce<unknown>(
    (value, step) => (typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[step] : undefined),
    root,
  )
}

function schemaAt(root: AnySchema, path: string): AnySchema | undefined {
  return valueAt(root, path.replace(/^#/, '')) as AnySchema | undefined
}

function steps(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}
