// Options as JSON with a `kind`, as jobs and the command line give them: checked against the schema of their kind and
// completed with its defaults. Optimizers, schedules and losses are named so.
import type { Static, TObject } from 'typebox'
import Value from 'typebox/value'
import { FlyweightError } from '../errors.js'

/**
 * @param kinds by kind, the schema of its options, `kind` among them
 * @param pointer JSON pointer to the options, for messages
 * @throws FlyweightError `invalid_input` that names the field, what came and what was expected
 */
export function completeOptions<Kinds extends Record<string, TObject>>(kinds: Kinds, given: unknown, pointer: string): Static<Kinds[keyof Kinds]> {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw optionError(pointer, `got ${describe(given)}, expected an object like {"kind": "${Object.keys(kinds)[0]}"}`)
  const { kind } = given as { kind?: unknown }
  if (typeof kind !== 'string' || !Object.hasOwn(kinds, kind))
    throw optionError(`${pointer}/kind`, `got ${describe(kind)}, expected one of ${Object.keys(kinds).join(', ')}`)
  return completeObject(kinds[kind] as TObject, given, pointer, ` of ${kind}`) as Static<Kinds[keyof Kinds]>
}

/**
 * Options of one schema, completed with its defaults.
 * @param of what they are options of, for messages
 * @throws FlyweightError `invalid_input` that names the field, what came and what was expected
 */
export function completeObject<Schema extends TObject>(schema: Schema, given: unknown, pointer: string, of = ''): Static<Schema> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw optionError(pointer, `got ${describe(given)}, expected an object`)
  const unknown = Object.keys(given).find((key) => !Object.hasOwn(schema.properties, key))
  if (unknown !== undefined) throw optionError(`${pointer}/${unknown}`, `there is no such option${of}; expected ${Object.keys(schema.properties).join(', ')}`)
  const complete = Value.Default(schema, { ...given })
  const [error] = Value.Errors(schema, complete)
  if (error !== undefined)
    throw optionError(`${pointer}${error.instancePath}`, `got ${describe(Value.Pointer.Get(complete, error.instancePath))}: ${error.message}`)
  return complete as Static<Schema>
}

/** A fault of one field; `detail` says what came and what was expected. */
export function optionError(pointer: string, detail: string): FlyweightError {
  return new FlyweightError('invalid_input', `${pointer}: ${detail}`, { errors: [{ pointer, detail }] })
}

function describe(value: unknown): string {
  return value === undefined ? 'nothing' : (JSON.stringify(value)?.slice(0, 100) ?? typeof value)
}
