// What waits for one device: the oldest micro-batch's stage goes first, and no more is handed to the device than it
// needs so as not to wait for us.
import type { StageHost } from './stage-host.js'

/** A stage's run on a micro-batch whose values are all there. */
export interface Work {
  /** Less goes first. */
  order: number
  stage: number
  /** Hands it to the device; ends with it, and never rejects. */
  start(): Promise<void>
}

/** One that it computes, and one that waits there: a message to a thread and back takes as long as a small stage. */
const RUNS_AT_ONCE = 2

export class DeviceQueue {
  readonly host: StageHost
  readonly #waiting: Work[] = []
  readonly #forget: () => void
  #running = 0
  /** When the device began with the oldest run it has; performance.now(). */
  #since = 0
  #lost: string | undefined

  /** @param onLost is called once, when the host died by itself */
  constructor(host: StageHost, onLost: (queue: DeviceQueue, reason: string) => void) {
    this.host = host
    this.#forget = host.onLost((reason) => {
      this.#lost = reason
      onLost(this, reason)
    })
  }

  /** Why the host is gone; undefined while it lives. */
  get lost(): string | undefined {
    return this.#lost
  }

  /** Milliseconds that the device has been on one run; 0 while it has none. */
  busyMs(now: number): number {
    return this.#running === 0 ? 0 : now - this.#since
  }

  /** Micro-batches that wait for `stage`. */
  depth(stage: number): number {
    return this.#waiting.filter((work) => work.stage === stage).length
  }

  add(work: Work): void {
    const later = this.#waiting.findIndex(({ order }) => order > work.order)
    this.#waiting.splice(later === -1 ? this.#waiting.length : later, 0, work)
    this.#advance()
  }

  remove(works: ReadonlySet<Work>): void {
    for (let at = this.#waiting.length - 1; at >= 0; at--) if (works.has(this.#waiting[at]!)) this.#waiting.splice(at, 1)
  }

  /** The host's end is no longer of interest. */
  forget(): void {
    this.#forget()
  }

  #advance(): void {
    while (this.#running < RUNS_AT_ONCE) {
      const work = this.#waiting.shift()
      if (work === undefined) return
      if (this.#running === 0) this.#since = performance.now()
      this.#running += 1
      void work.start().then(() => {
        this.#running -= 1
        this.#since = performance.now()
        this.#advance()
      })
    }
  }
}
