// What a variant costs in memory and time to load: as measured, or estimated until it is.
import type { Variant } from '../registry/model.js'

/** Resident bytes. Unmeasured: weights, runtime copies and arenas take about two and a half times the file. */
export function residentBytesOf(variant: Variant): number {
  return variant.profile?.residentBytes ?? Math.round(variant.bytes * 2.5) + 2 ** 21
}

/** Why a whole variant cannot be served within the weights that a lane may load; undefined when it can, or is in stages. */
export function unfitReason({ bytes, model, version, name, source, shards }: Variant, laneBudgetBytes: number): string | undefined {
  if (laneBudgetBytes === 0 || bytes <= laneBudgetBytes || shards !== undefined) return undefined
  const wish = JSON.stringify({ model, version, ...(source ? {} : { variant: name }) })
  return `its ${bytes} bytes exceed the ${laneBudgetBytes} that a lane may hold (serving.laneBudgetBytes): shard it with POST /admin/shard ${wish}`
}

/** Milliseconds. Unmeasured: the graph optimizer takes about 30 ms a megabyte. */
export function loadMsOf(variant: Variant): number {
  return variant.profile?.loadMs ?? 20 + (variant.bytes / 2 ** 20) * 30
}
