// What the train command's flags mean: settings from JSON or a file of it, students from a few words.
import { readFile } from 'node:fs/promises'
import { FlyweightError, messageOf } from '../errors.js'
import type { NetworkSpec } from '../train/networks.js'

export interface TrainFlags {
  data?: string
  student?: string
  settings?: string
  epochs?: number
  precision?: string
  as?: string
  out?: string
  plot?: string
  checkpoint?: string
  modelVersion?: string
}

/**
 * Settings as JSON text, or a file of it; `epochs` and `precision` win: `mixed:graph` is mixed precision at the level `graph`.
 * @throws FlyweightError `invalid_input` for what is no JSON object
 */
export async function settingsOf({ settings, epochs, precision }: TrainFlags): Promise<Record<string, unknown>> {
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
  const [kind, level] = precision?.split(':') ?? []
  return {
    ...parsed,
    ...(epochs === undefined ? {} : { epochs }),
    ...(kind === undefined ? {} : { precision: { kind, ...(level === undefined ? {} : { level }) } }),
  }
}

function unreadable(settings: string, cause: unknown): never {
  throw new FlyweightError('invalid_input', `--settings: got ${settings.slice(0, 100)}, expected JSON or a file of it: ${messageOf(cause)}`, { cause })
}

/**
 * `mlp:64,32` has hidden layers of 64 and 32 units; `cnn:16,32` blocks of 16 and 32 channels, `cnn:16,32/64` a layer of 64
 * units behind them; `mlp:` has no hidden layer.
 * @throws FlyweightError `invalid_input` for anything else
 */
export function studentOf(text: string): NetworkSpec {
  const [, kind, first = '', second] = /^(mlp|cnn):([\d,]*)(?:\/([\d,]+))?$/.exec(text) ?? []
  const numbers = (list: string) => (list === '' ? [] : list.split(',').map(Number))
  const wellFormed = [...numbers(first), ...numbers(second ?? '')].every((width) => Number.isInteger(width) && width > 0)
  if (wellFormed && kind === 'mlp' && second === undefined) return { kind, hidden: numbers(first) }
  if (wellFormed && kind === 'cnn' && first !== '') return { kind, channels: numbers(first), hidden: numbers(second ?? '') }
  throw new FlyweightError('invalid_input', `--student: got ${text}, expected mlp:64,32 or cnn:16,32 or cnn:16,32/64`)
}
