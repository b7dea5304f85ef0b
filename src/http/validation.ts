// Fastify's checks of bodies, parameters and queries: by the schemas of their routes (wire/check.ts says
// how), after queries and parameters, which arrive as text, became what their schemas declare.
import type { TSchema } from 'typebox'
import { checkOf } from '../wire/check.js'
import type { AnySchema } from '../wire/request-schemas.js'

const PARTS: Readonly<Record<string, string>> = { body: '', querystring: '/query', params: '/params', headers: '/headers' }

/** Fastify's validator compiler: queries and parameters arrive as text and are converted, bodies are taken as they are. */
export function validatorCompiler({ schema, httpPart }: { schema: unknown; httpPart?: string }): (value: unknown) => { value: unknown } | { error: Error } {
  const check = checkOf(schema as TSchema, PARTS[httpPart ?? 'body'])
  return (value) => {
    const converted = httpPart === 'body' ? value : fromText(schema as AnySchema, value)
    try {
      check(converted)
      return { value: converted }
    } catch (error) {
      return { error: error as Error }
    }
  }
}

/** Validator compiler of routes whose body is bytes, to be checked once it is read. */
export function bytesPass(part: { schema: unknown; httpPart?: string }): (value: unknown) => { value: unknown } | { error: Error } {
  return part.httpPart === 'body' ? (value) => ({ value }) : validatorCompiler(part)
}

/** Text that reads as the declared type becomes it; anything else stays text and is refused by the check. */
function fromText({ properties = {} }: AnySchema, value: unknown): unknown {
  return Object.fromEntries(
    Object.entries((value ?? {}) as Record<string, unknown>).map(([name, text]) => {
      const type = Object.hasOwn(properties, name) ? properties[name]?.type : undefined
      if (typeof text !== 'string') return [name, text]
      if (type === 'boolean' && /^(1|true)$/.test(text)) return [name, true]
      if (type === 'boolean' && /^(0|false)$/.test(text)) return [name, false]
      if ((type === 'number' || type === 'integer') && /^-?\d+(\.\d+)?$/.test(text)) return [name, Number(text)]
      return [name, text]
    }),
  )
}
