// Schemas of options as requests see them: what has a default may be left out, and of options told apart by `kind`
// those of the kind given are meant, so that errors name a field and not a choice of schemas.
import type { TSchema } from 'typebox'

export interface AnySchema {
  type?: string
  properties?: Record<string, AnySchema>
  required?: readonly string[]
  anyOf?: readonly AnySchema[]
  const?: unknown
  enum?: readonly unknown[]
}

/** The schema with nothing required that has a default, at any depth. */
export function withoutDefaults(schema: TSchema): TSchema {
  return changed(schema) as TSchema
}

function changed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(changed)
  if (typeof schema !== 'object' || schema === null) return schema
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, key === 'default' ? value : changed(value)]))
  const { properties, required } = schema as AnySchema
  if (properties !== undefined && required !== undefined) copy['required'] = required.filter((name) => !('default' in (properties[name] ?? {})))
  return copy
}

/** The schema with each choice by `kind` replaced by the one that the value names, or by the kinds that there are. */
export function meantBy(schema: AnySchema, value: unknown): AnySchema {
  const { anyOf, properties } = schema
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const kinds = anyOf?.map((one) => one.properties?.['kind']?.const)
  if (anyOf !== undefined && kinds?.every((kind) => typeof kind === 'string')) {
    const member = anyOf[kinds.indexOf(String(fields['kind']))]
    return member === undefined ? { type: 'object', required: ['kind'], properties: { kind: { enum: kinds } } } : meantBy(member, value)
  }
  if (properties === undefined) return schema
  const meant = Object.entries(properties).map(([name, one]) => [name, Object.hasOwn(fields, name) ? meantBy(one, fields[name]) : one])
  return { ...schema, properties: Object.fromEntries(meant) as Record<string, AnySchema> }
}
