// The lanes: which are free, and new ones in place of those that die. What runs on them is decided
// elsewhere (scheduler.ts).
import { Lane } from '../runtime/lane.js'

/** Respawn delays double from the first to the second, so that a variant that kills lanes cannot busy the machine. */
const BACKOFF_MS = { first: 50, longest: 5000 }
/** A lane that lived this long is healthy again. */
const HEALTHY_MS = 30_000

interface Slot {
  lane: Lane
  busy: boolean
  /** Predicted time at which the current run ends; performance.now(). */
  freeAt: number
  startedAt: number
  backoffMs: number
}

export interface LanePoolOptions {
  count: number
  device: string
  threads: number
  /** A lane died or was closed for hanging; called before its successor starts. */
  onLost(lane: number, reason: string): void
  /** A lane became free or was replaced. */
  onFree(): void
}

export class LanePool {
  readonly #options: LanePoolOptions
  readonly #slots: (Slot | undefined)[]
  #closed = false

  constructor(options: LanePoolOptions) {
    this.#options = options
    this.#slots = Array.from({ length: options.count }, (_, id) => this.#spawn(id, BACKOFF_MS.first))
  }

  get count(): number {
    return this.#options.count
  }

  lane(id: number): Lane | undefined {
    return this.#slots[id]?.lane
  }

  free(): number[] {
    return this.#slots.flatMap((slot, id) => (slot !== undefined && !slot.busy ? [id] : []))
  }

  isBusy(id: number): boolean {
    return this.#slots[id]?.busy ?? true
  }

  /** Milliseconds until the lane is predicted free; 0 when it is. */
  freeInMs(id: number, now: number): number {
    const slot = this.#slots[id]
    if (slot === undefined) return BACKOFF_MS.first
    return slot.busy ? Math.max(0, slot.freeAt - now) : 0
  }

  take(id: number, freeAt: number): void {
    const slot = this.#slots[id]
    if (slot === undefined) return
    slot.busy = true
    slot.freeAt = freeAt
  }

  give(id: number): void {
    const slot = this.#slots[id]
    if (slot === undefined) return
    slot.busy = false
    this.#options.onFree()
  }

  /** Ends a lane that hangs; a successor takes its place. */
  abandon(id: number, reason: string): void {
    const slot = this.#slots[id]
    if (slot !== undefined) this.#lose(id, slot, reason)
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#slots.map(async (slot) => slot?.lane.close()))
  }

  #spawn(id: number, backoffMs: number): Slot {
    const lane = new Lane({ id, device: this.#options.device, threads: this.#options.threads })
    const slot: Slot = { lane, busy: false, freeAt: 0, startedAt: performance.now(), backoffMs }
    lane.onExit(({ expected, reason }) => {
      if (!expected) this.#lose(id, slot, reason)
    })
    return slot
  }

  #lose(id: number, slot: Slot, reason: string): void {
    if (this.#closed || this.#slots[id] !== slot) return
    this.#slots[id] = undefined
    void slot.lane.close()
    this.#options.onLost(id, reason)
    const healthy = performance.now() - slot.startedAt > HEALTHY_MS
    const delayMs = healthy ? BACKOFF_MS.first : slot.backoffMs
    setTimeout(() => {
      if (this.#closed) return
      this.#slots[id] = this.#spawn(id, Math.min(BACKOFF_MS.longest, delayMs * 2))
      this.#options.onFree()
    }, delayMs).unref()
  }
}
