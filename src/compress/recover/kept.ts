// Which channels of the original's tensors a pruned model still has: a metadata property of the model, JSON
// `{ "<tensor>": { "axis": 1, "of": 64, "kept": [0, 3, …] } }`. The pass that removes channels writes it.
import { FlyweightError } from '../../errors.js'
import type { Model } from '../passes/pass.js'

const KEY = 'flyweight.kept'

/**
 * By tensor: the original's channels that are left, in their order. Empty where no channels were removed.
 * @throws FlyweightError `invalid_model` for a property that is not of that form.
 */
export function keptChannels({ metadataProps }: Model): Map<string, readonly number[]> {
  const text = metadataProps.find(({ key }) => key === KEY)?.value
  if (text === undefined) return new Map()
  const invalid = (what: string) => new FlyweightError('invalid_model', `metadata property "${KEY}": ${what}`)
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new FlyweightError('invalid_model', `metadata property "${KEY}": not JSON: ${text.slice(0, 100)}`, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null) throw invalid(`got ${text.slice(0, 100)}, expected an object`)
  return new Map(
    Object.entries(parsed).map(([tensor, entry]) => {
      const kept: unknown = (entry as { kept?: unknown } | null)?.kept
      if (!Array.isArray(kept) || !kept.every((channel) => Number.isInteger(channel) && Number(channel) >= 0))
        throw invalid(`got ${JSON.stringify(entry)} for tensor "${tensor}", expected {"axis", "of", "kept": channel numbers}`)
      return [tensor, kept as number[]]
    }),
  )
}
