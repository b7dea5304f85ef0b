// Which variants leave memory to make room. Pure policy; variant-cache.ts applies it.

export interface Resident {
  key: string
  bytes: number
  /** Uses lately, decayed; more means warmer. */
  demand: number
  /** Milliseconds it takes to load it again. */
  reloadMs: number
  /** Leased, pinned or in transit: must stay. */
  held: boolean
}

/**
 * Keys to evict so that `neededBytes` fit, cheapest loss first: lowest (demand × reload cost) ÷ bytes,
 * as GreedyDual-Size weighs objects (Cao & Irani, 1997). `residents` come least recently used first,
 * which breaks ties. Undefined when even evicting everything not held would not do.
 */
export function chooseVictims(residents: readonly Resident[], freeBytes: number, neededBytes: number): string[] | undefined {
  const ranked = residents
    .filter(({ held }) => !held)
    .map((resident) => ({ ...resident, loss: (resident.demand * resident.reloadMs) / Math.max(1, resident.bytes) }))
    .sort((a, b) => a.loss - b.loss)
  const victims: string[] = []
  let free = freeBytes
  for (const { key, bytes } of ranked) {
    if (free >= neededBytes) break
    victims.push(key)
    free += bytes
  }
  return free >= neededBytes ? victims : undefined
}
