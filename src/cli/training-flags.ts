// What the train command's flags mean: settings from JSON or a file of it, students from a few words.
import { readFile } from 'node:fs/promises'
import { FlyweightError, messageOf } from '../errors.js'
import { completeStudent, type StudentSpec } from '../train/students.js'

export interface TrainFlags {
  data?: string
  student?: string
  settings?: string
  epochs?: number
  precision?: string
  parallel?: string
  as?: string
  out?: string
  plot?: string
  checkpoint?: string
  redis?: string
  modelVersion?: string
}

/**
 * Settings as JSON text, or a file of it; `epochs`, `precision` and `parallel` win: `mixed:graph` is mixed precision at the
 * level `graph`, and `parallel` is the number of ranks, or settings by name: `pipeline=2,schedule=gpipe,recompute`.
 * @throws FlyweightError `invalid_input` for what is no JSON object
 */
export async function settingsOf({ settings, epochs, precision, parallel }: TrainFlags): Promise<Record<string, unknown>> {
  const text =
    settings === undefined
      ? '{}'
      : settings.trimStart().startsWith('{')
        ? settings
        : await readFile(settings, 'utf8').catch((cause: unknown) => unreadable(settings, cause))
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    unreadable(settings ?? '', cause)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new FlyweightError('invalid_input', `--settings: got ${text.slice(0, 100)}, expected a JSON object`)
  const given = parsed as Record<string, unknown>
  const [kind, level] = precision?.split(':') ?? []
  return {
    ...given,
    ...(epochs === undefined ? {} : { epochs }),
    ...(kind === undefined ? {} : { precision: { kind, ...(level === undefined ? {} : { level }) } }),
    ...(parallel === undefined ? {} : { parallel: { ...(given['parallel'] as object | undefined), ...parallelOf(parallel) } }),
  }
}

/** Names and values are the settings' to judge. */
function parallelOf(text: string): Record<string, unknown> {
  if (/^\d+$/.test(text)) return { data: Number(text) }
  const pairs = text.split(',').map((pair) => /^(\w+)(?:=(.+))?$/.exec(pair))
  if (pairs.includes(null))
    throw new FlyweightError(
      'invalid_input',
      `--parallel: got ${text.slice(0, 100)}, expected a number of ranks, or settings as pipeline=2,data=2,schedule=gpipe`,
    )
  const valueOf = (value: string | undefined) =>
    value === undefined || value === 'true' ? true : value === 'false' ? false : /^\d+$/.test(value) ? Number(value) : value
  return Object.fromEntries((pairs as RegExpExecArray[]).map(([, name, value]) => [name, valueOf(value)]))
}

function unreadable(settings: string, cause: unknown): never {
  throw new FlyweightError('invalid_input', `--settings: got ${settings.slice(0, 100)}, expected JSON or a file of it: ${messageOf(cause)}`, { cause })
}

const STUDENTS = 'mlp:64,32 or cnn:16,32/64 or transformer:width=64,depth=4 or shrink:width=0.5,depth=0.5 or model:other, or JSON with a kind'

/**
 * `mlp:64,32` has hidden layers of 64 and 32 units; `cnn:16,32` blocks of 16 and 32 channels, `cnn:16,32/64` a layer of 64
 * units behind them; `mlp:` has no hidden layer. `transformer:` and `shrink:` take numbers by name, `model:` the name of a
 * served model, or the file of one.
 * @throws FlyweightError `invalid_input` for anything else
 */
export function studentOf(text: string): StudentSpec {
  if (text.trimStart().startsWith('{')) return completeStudent(parsedStudent(text), '--student')
  const [, kind, rest = ''] = /^(\w+):(.*)$/s.exec(text) ?? []
  switch (kind) {
    case 'mlp':
    case 'cnn':
      return completeStudent({ kind, ...layersOf(kind, rest, text) }, '--student')
    case 'transformer':
    case 'shrink':
      return completeStudent({ kind, ...numbersByName(rest, text) }, '--student')
    case 'model':
      return completeStudent({ kind, model: rest }, '--student')
    default:
      throw unknownStudent(text)
  }
}

function parsedStudent(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new FlyweightError('invalid_input', `--student: got ${text.slice(0, 100)}, expected JSON: ${messageOf(cause)}`, { cause })
  }
}

function layersOf(kind: 'mlp' | 'cnn', rest: string, text: string): object {
  const [, first = '', second] = /^([\d,]*)(?:\/([\d,]+))?$/.exec(rest) ?? []
  const numbers = (list: string) => (list === '' ? [] : list.split(',').map(Number))
  const wellFormed = rest.startsWith(first) && [...numbers(first), ...numbers(second ?? '')].every((width) => Number.isInteger(width) && width > 0)
  if (!wellFormed || (first === '' && rest !== '') || (kind === 'mlp' ? second !== undefined : first === '')) throw unknownStudent(text)
  return kind === 'mlp' ? { hidden: numbers(first) } : { channels: numbers(first), hidden: numbers(second ?? '') }
}

function numbersByName(rest: string, text: string): Record<string, number> {
  const pairs = rest === '' ? [] : rest.split(',').map((pair) => /^(\w+)=([\d.]+)$/.exec(pair))
  if (pairs.some((pair) => pair === null || Number.isNaN(Number(pair[2])))) throw unknownStudent(text)
  return Object.fromEntries((pairs as RegExpExecArray[]).map(([, name, value]) => [name, Number(value)]))
}

function unknownStudent(text: string): FlyweightError {
  return new FlyweightError('invalid_input', `--student: got ${text.slice(0, 100)}, expected ${STUDENTS}`)
}
