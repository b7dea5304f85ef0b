// What a variant costs in memory and time to load: as measured, or estimated until it is.
import type { Variant } from '../registry/model.js'

/** Resident bytes. Unmeasured: weights, runtime copies and arenas take about two and a half times the file. */
export function residentBytesOf(variant: Variant): number {
  return variant.profile?.residentBytes ?? Math.round(variant.bytes * 2.5) + 2 ** 21
}

/** Milliseconds. Unmeasured: the graph optimizer takes about 30 ms a megabyte. */
export function loadMsOf(variant: Variant): number {
  return variant.profile?.loadMs ?? 20 + (variant.bytes / 2 ** 20) * 30
}
