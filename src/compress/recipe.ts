// Recipes: which passes, in which order, with which parameters. Read from JSON or a short string, checked
// against the passes' schemas, completed with defaults, and named by their canonical form.
import { createHash } from 'node:crypto'
import type { TObject } from 'typebox'
import Value from 'typebox/value'
import { FlyweightError } from '../errors.js'
import type { Recipe, RecipeStep } from '../measurements.js'
import { passes, passNamed } from './passes/table.js'

/** Names that stand for a recipe chosen by what the model is made of (choose.ts). */
const PRESETS = ['int8'] as const
export type Preset = (typeof PRESETS)[number]

/** What was asked for: a recipe of its own, or a preset. */
export type RecipeRequest = { recipe: Recipe; preset?: undefined } | { preset: Preset; recipe?: undefined }

/** What stands for a search for recipes instead of a recipe (search/). */
const SEARCH = 'auto'

/** Whether what was asked for is a search for recipes, not one of its own: parseRecipe refuses it. */
export function isSearch(input: unknown): boolean {
  return typeof input === 'string' && input.trim() === SEARCH
}

/**
 * Reads a recipe: a preset's name, a short string such as `int8-static(depthwise=false)+fp16`, or an array
 * of steps `{ pass, …parameters }`. In a short string, the characters `%+()=,|` and white space inside a value are
 * written `%xx` as in a URL. Steps come back complete, defaults filled in.
 * @throws FlyweightError `invalid_recipe` naming the step and parameter, what came and what was expected.
 */
export function parseRecipe(input: unknown): RecipeRequest {
  if (typeof input === 'string') {
    const preset = PRESETS.find((name) => name === input.trim())
    if (preset !== undefined) return { preset }
  }
  const steps = typeof input === 'string' ? input.split('+').map(parseStep) : input
  if (!Array.isArray(steps) || steps.length === 0) {
    throw invalid('/recipe', `got ${describe(input)}, expected a preset (${PRESETS.join(', ')}), a short string like "int8-static", or an array of steps`)
  }
  const recipe = steps.map((step, index) => complete(step, index))
  checkOrder(recipe)
  return { recipe }
}

/** Passes that find nothing to do in weights of half precision. */
const NEED_FLOAT32: ReadonlySet<string> = new Set(['int8-static', 'int8-dynamic', 'int4', 'smooth-quant'])

function checkOrder(recipe: Recipe): void {
  const half = recipe.findIndex(({ pass }) => pass === 'fp16')
  const late = recipe.findIndex(({ pass }, index) => half >= 0 && index > half && NEED_FLOAT32.has(pass))
  if (late < 0) return
  const { pass } = recipe[late]!
  throw invalid(`/recipe/${late}/pass`, `got ${pass} after fp16 (step ${half}), which leaves it no float32 weights; expected fp16 after ${pass}`)
}

/** The one JSON text that equal recipes have in common: keys in order, defaults filled in. */
export function canonicalRecipe(recipe: Recipe): string {
  return JSON.stringify(recipe.map((step) => Object.fromEntries(Object.entries(step).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))))
}

/** SHA-256 (hex) of the canonical form. */
export function recipeHash(recipe: Recipe): string {
  return createHash('sha256').update(canonicalRecipe(recipe)).digest('hex')
}

/** Longer names are cut: they are part of ids, addresses and file names. */
const LONGEST_NAME = 80

/** What a variant is called: the recipe's short form, or where that is long its passes and the beginning of its hash. */
export function variantName(recipe: Recipe): string {
  const name = recipeName(recipe)
  return name.length <= LONGEST_NAME ? name : `${recipe.map(({ pass }) => pass).join('+')}~${recipeHash(recipe).slice(0, 8)}`
}

/** A recipe in short, as it can be read again: its passes joined by `+`, each with the parameters that differ from their defaults. */
export function recipeName(recipe: Recipe): string {
  return recipe.map(stepName).join('+')
}

function stepName(step: RecipeStep): string {
  const defaults = completeParameters(step.pass, {})
  const changed = Object.entries(step).filter(([key, value]) => key !== 'pass' && JSON.stringify(value) !== JSON.stringify(defaults[key]))
  return changed.length === 0
    ? step.pass
    : `${step.pass}(${changed.map(([key, value]) => `${key}=${(Array.isArray(value) ? value : [value]).map(escaped).join('|')}`).join(',')})`
}

/** Characters that short strings are made of, and what a shell or a reader would stumble over. */
function escaped(value: unknown): string {
  return String(value)
    .replace(/[%+()=,|\s]/gu, encodeURIComponent)
    .replace(/[()]/g, (bracket) => (bracket === '(' ? '%28' : '%29'))
}

function unescaped(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (codes) => Buffer.from(codes.replaceAll('%', ''), 'hex').toString())
}

/** `pass` or `pass(parameter=value,…)`; lists are separated by `|`. */
function parseStep(text: string, index: number): Record<string, unknown> {
  const match = /^\s*([\w-]+)\s*(?:\(([^()]*)\))?\s*$/.exec(text)
  if (match === null) throw invalid(`/recipe/${index}`, `got "${text.trim()}", expected pass or pass(parameter=value,…)`)
  const [, pass = '', list = ''] = match
  // Without a prototype, so that no key has a meaning of its own.
  const step: Record<string, unknown> = Object.assign(Object.create(null), { pass })
  const properties = passNamed(pass)?.parameters.properties ?? {}
  for (const pair of list.split(',').filter((part) => part.trim() !== '')) {
    const [key = '', value, ...rest] = pair.split('=').map((part) => part.trim())
    if (value === undefined || rest.length > 0) throw invalid(`/recipe/${index}/${key}`, `got "${pair.trim()}", expected parameter=value`)
    if (Object.hasOwn(step, key)) throw invalid(`/recipe/${index}/${key}`, `got it twice, expected once`)
    const schema: { type?: string } | undefined = Object.hasOwn(properties, key) ? properties[key] : undefined
    step[key] = fromText(value, schema?.type)
  }
  return step
}

function fromText(text: string, type: string | undefined): unknown {
  if (type === 'array') return text === '' ? [] : text.split('|').map(unescaped)
  if (type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text
  if (type === 'number' || type === 'integer') return text !== '' && Number.isFinite(Number(text)) ? Number(text) : text
  return unescaped(text)
}

function complete(step: unknown, index: number): RecipeStep {
  if (typeof step !== 'object' || step === null || Array.isArray(step))
    throw invalid(`/recipe/${index}`, `got ${describe(step)}, expected a step like {"pass": "int8-static"}`)
  const { pass, ...given } = step as Record<string, unknown>
  if (typeof pass !== 'string' || passNamed(pass) === undefined) {
    const hint =
      pass === SEARCH ? '; a search stands alone, and only where its time is given' : PRESETS.some((preset) => preset === pass) ? '; a preset stands alone' : ''
    throw invalid(`/recipe/${index}/pass`, `got ${describe(pass)}, expected one of ${passes.map(({ name }) => name).join(', ')}${hint}`)
  }
  const parameters = completeParameters(pass, given)
  const schema = (passNamed(pass) as { parameters: TObject }).parameters
  const [error] = Value.Errors(schema, parameters)
  if (error !== undefined) throw parameterError(schema, parameters, `/recipe/${index}`, error)
  return { pass, ...parameters }
}

function completeParameters(pass: string, given: Record<string, unknown>): Record<string, unknown> {
  return Value.Default((passNamed(pass) as { parameters: TObject }).parameters, { ...given }) as Record<string, unknown>
}

function parameterError(
  schema: TObject,
  parameters: Record<string, unknown>,
  pointer: string,
  error: { instancePath: string; message: string },
): FlyweightError {
  const unknown = Object.keys(parameters).find((key) => !Object.hasOwn(schema.properties, key))
  if (unknown !== undefined)
    return invalid(`${pointer}/${unknown}`, `there is no such parameter; expected ${Object.keys(schema.properties).join(', ') || 'none'}`)
  return invalid(`${pointer}${error.instancePath}`, `got ${describe(Value.Pointer.Get(parameters, error.instancePath))}: ${error.message}`)
}

function invalid(pointer: string, detail: string): FlyweightError {
  return new FlyweightError('invalid_recipe', `${pointer}: ${detail}`, { errors: [{ pointer, detail }] })
}

function describe(value: unknown): string {
  return value === undefined ? 'nothing' : (JSON.stringify(value)?.slice(0, 100) ?? typeof value)
}
