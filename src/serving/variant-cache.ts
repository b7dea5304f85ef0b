// Which variants are in memory, on which lane, within a byte budget. Room is reserved before a load
// starts and counted free only after an unload has ended, so the budget is never exceeded. A lease
// keeps a variant in memory while a batch uses it. Knows lanes only through `load` and `unload`.
import { LRUCache } from 'lru-cache'
import { FlyweightError } from '../errors.js'
import type { Shards } from '../registry/model.js'
import type { EvictionReason } from './observer.js'
import type { CacheSnapshot } from './request.js'
import { chooseVictims } from './victims.js'

/** A variant wanted on a lane. */
export interface Placement {
  variant: string
  model: string
  lane: number
  file: string
  /** Measured resident bytes, or an estimate until measured. */
  bytes: number
  pinned: boolean
  /** Of a variant in stages. */
  shards?: Shards
}

export interface CacheMachinery {
  load(placement: Placement): Promise<{ loadMs: number }>
  unload(placement: Placement): Promise<void>
  loaded(placement: Placement, loadMs: number): void
  evicted(placement: Placement, reason: EvictionReason): void
}

interface Entry {
  placement: Placement
  state: 'loading' | 'resident' | 'unloading'
  leases: number
  loadMs: number
  loadedAt: number
  lastUsedAt: number
  hits: number
  /** Uses, halved every minute. */
  demand: number
}

/** Half-life of an entry's demand. */
const DEMAND_HALF_LIFE_MS = 60_000

export class VariantCache {
  readonly #budgetBytes: number
  readonly #machinery: CacheMachinery
  readonly #entries: LRUCache<string, Entry>
  readonly #waiters = new Set<() => void>()
  readonly #evictions: Partial<Record<EvictionReason, number>> = {}
  #loads = 0

  constructor(budgetBytes: number, machinery: CacheMachinery) {
    this.#budgetBytes = budgetBytes
    this.#machinery = machinery
    // Room is made before an entry is set, so lru-cache orders and accounts but never evicts by itself.
    this.#entries = new LRUCache({ maxSize: budgetBytes, sizeCalculation: ({ placement }) => Math.max(1, placement.bytes) })
  }

  get residentBytes(): number {
    return this.#entries.calculatedSize
  }

  /** Whether the variant can run on the lane at once. */
  isResident(variant: string, lane: number): boolean {
    return this.#entries.peek(keyOf(variant, lane))?.state === 'resident'
  }

  /** Lanes that hold the variant or are loading it. */
  lanesOf(variant: string): number[] {
    return [...this.#entries.values()]
      .filter((entry) => entry.placement.variant === variant && entry.state !== 'unloading')
      .map((entry) => entry.placement.lane)
  }

  bytesOn(lane: number): number {
    return [...this.#entries.values()].reduce((sum, { placement }) => (placement.lane === lane ? sum + placement.bytes : sum), 0)
  }

  /** Whether it fits without evicting anything. */
  fitsFree(bytes: number): boolean {
    return this.#entries.calculatedSize + bytes <= this.#budgetBytes
  }

  /**
   * Makes the variant resident on its lane and leases it; the caller must call the returned release
   * function once. Waits while everything else in memory is leased.
   * @throws FlyweightError `out_of_memory` when the variant alone exceeds the budget; what `load` throws.
   */
  async acquire(placement: Placement): Promise<{ loadMs: number; release: () => void }> {
    if (placement.bytes > this.#budgetBytes) {
      throw new FlyweightError('out_of_memory', `${placement.variant} needs ${placement.bytes} bytes, the memory budget is ${this.#budgetBytes}`)
    }
    const key = keyOf(placement.variant, placement.lane)
    for (;;) {
      const entry = this.#entries.get(key)
      if (entry?.state === 'resident') {
        if (entry.placement.file === placement.file) return this.#lease(entry, 0)
        // The variant has another file now, and what is loaded is the one before it.
        if (entry.leases === 0) {
          await this.#unload(entry, 'unloaded')
          continue
        }
      }
      // Room is looked for and taken in one step, without an await between: two loads never share it.
      const victims = entry === undefined ? this.#victims(placement.bytes) : undefined
      if (victims?.length === 0) return this.#load(key, placement)
      await (victims === undefined ? this.#change() : Promise.all(victims.map((victim) => this.#unload(victim, 'budget'))))
    }
  }

  /** Unloads what is not leased, of one variant or of all; returns how many sessions were released. */
  async evict(matches: (placement: Placement) => boolean, reason: EvictionReason): Promise<number> {
    const chosen = [...this.#entries.values()].filter((entry) => entry.state === 'resident' && entry.leases === 0 && matches(entry.placement))
    await Promise.all(chosen.map((entry) => this.#unload(entry, reason)))
    return chosen.length
  }

  /** Unloads every variant not used since `before` (milliseconds of performance.now()). */
  async evictIdle(before: number): Promise<void> {
    const idle = new Set([...this.#entries.values()].filter((entry) => entry.lastUsedAt < before && !entry.placement.pinned).map((entry) => entry.placement))
    await this.evict((placement) => idle.has(placement), 'idle')
  }

  /** Pins or unpins what is loaded of a variant. */
  setPinned(variant: string, pinned: boolean): void {
    for (const entry of this.#entries.values()) if (entry.placement.variant === variant) entry.placement = { ...entry.placement, pinned }
  }

  /** Drops entries whose lane, or a device of whose stages, has ended; their memory went with it. */
  lose(matches: (placement: Placement) => boolean): void {
    for (const [key, entry] of this.#entries.entries()) if (matches(entry.placement)) this.#drop(key, entry, 'lane-lost')
  }

  snapshot(): CacheSnapshot {
    const toIso = (at: number) => new Date(performance.timeOrigin + at).toISOString()
    return {
      budgetBytes: this.#budgetBytes,
      residentBytes: this.residentBytes,
      entries: [...this.#entries.values()].map(({ placement, state, leases, loadedAt, lastUsedAt, hits }) => ({
        variant: placement.variant,
        lane: placement.lane,
        bytes: placement.bytes,
        state: state === 'loading' ? 'loading' : 'resident',
        leases,
        pinned: placement.pinned,
        loadedAt: toIso(loadedAt),
        lastUsedAt: toIso(lastUsedAt),
        hits,
      })),
      evictions: { ...this.#evictions },
      loads: this.#loads,
    }
  }

  #lease(entry: Entry, loadMs: number): { loadMs: number; release: () => void } {
    const now = performance.now()
    entry.demand = decayed(entry, now) + 1
    entry.lastUsedAt = now
    entry.hits += 1
    entry.leases += 1
    let released = false
    const release = () => {
      if (released) return
      released = true
      entry.leases -= 1
      if (entry.leases === 0) this.#notify()
    }
    return { loadMs, release }
  }

  /** What to evict so that `bytes` fit: nothing when they fit already, undefined when leases must end first. */
  #victims(bytes: number): Entry[] | undefined {
    const now = performance.now()
    // Least recently used first, so that ties fall on the coldest.
    const residents = [...this.#entries.entries()].reverse().map(([key, entry]) => ({
      key,
      bytes: entry.placement.bytes,
      demand: decayed(entry, now),
      reloadMs: entry.loadMs,
      held: entry.state !== 'resident' || entry.leases > 0 || entry.placement.pinned,
    }))
    const victims = chooseVictims(residents, this.#budgetBytes - this.#entries.calculatedSize, bytes)
    if (victims !== undefined) return victims.map((key) => this.#entries.peek(key) as Entry)
    if ([...this.#entries.values()].every(({ placement }) => placement.pinned)) {
      throw new FlyweightError('out_of_memory', `${bytes} bytes are needed, and only pinned variants are in memory`)
    }
    return undefined
  }

  async #load(key: string, placement: Placement): Promise<{ loadMs: number; release: () => void }> {
    const now = performance.now()
    const entry: Entry = { placement, state: 'loading', leases: 0, loadMs: 0, loadedAt: now, lastUsedAt: now, hits: 0, demand: 0 }
    this.#entries.set(key, entry)
    try {
      const { loadMs } = await this.#machinery.load(placement)
      entry.state = 'resident'
      entry.loadMs = loadMs
      entry.loadedAt = performance.now()
      this.#loads += 1
      this.#machinery.loaded(placement, loadMs)
      const lease = this.#lease(entry, loadMs)
      this.#notify()
      return lease
    } catch (error) {
      if (this.#entries.peek(key) === entry) this.#entries.delete(key)
      this.#notify()
      throw error
    }
  }

  async #unload(entry: Entry, reason: EvictionReason): Promise<void> {
    entry.state = 'unloading'
    const key = keyOf(entry.placement.variant, entry.placement.lane)
    // A lane that died has released everything: its entries are gone already.
    await this.#machinery.unload(entry.placement).catch(() => undefined)
    if (this.#entries.peek(key) === entry) this.#drop(key, entry, reason)
  }

  #drop(key: string, entry: Entry, reason: EvictionReason): void {
    this.#entries.delete(key)
    this.#evictions[reason] = (this.#evictions[reason] ?? 0) + 1
    this.#machinery.evicted(entry.placement, reason)
    this.#notify()
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiters.add(resolve))
  }

  #notify(): void {
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const wake of waiters) wake()
  }
}

function keyOf(variant: string, lane: number): string {
  return `${variant}@${lane}`
}

function decayed({ demand, lastUsedAt }: Entry, now: number): number {
  return demand * 0.5 ** ((now - lastUsedAt) / DEMAND_HALF_LIFE_MS)
}
