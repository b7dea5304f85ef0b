// What a rank waits for within a round: answers that may come before they are asked for, or never.
import type { ToRank, Vector } from './messages.js'

export class Answers {
  abandoned = false
  readonly #arrived = new Map<string, Vector>()
  #waiting: { key: string; resolve: (vector: Vector) => void; reject: (error: Error) => void } | undefined

  put({ step, vector, ...answer }: Extract<ToRank, { kind: 'reduced' | 'gathered' }>): void {
    const key = keyOf(step, 'bucket' in answer ? answer.bucket : 'gathered')
    if (this.#waiting?.key === key) this.#waiting.resolve(vector)
    else this.#arrived.set(key, vector)
  }

  /** The answer, once it is there; one is waited for at a time. Rejects once the round is abandoned. */
  take(step: number, bucket: number | 'gathered'): Promise<Vector> {
    this.check()
    const key = keyOf(step, bucket)
    const arrived = this.#arrived.get(key)
    this.#arrived.delete(key)
    if (arrived !== undefined) return Promise.resolve(arrived)
    return new Promise((resolve, reject) => {
      this.#waiting = { key, resolve, reject }
    })
  }

  abandon(): void {
    this.abandoned = true
    this.#waiting?.reject(abandonment())
  }

  /** Throws once the round is abandoned. */
  check(): void {
    if (this.abandoned) throw abandonment()
  }
}

function keyOf(step: number, bucket: number | 'gathered'): string {
  return `${step}:${bucket}`
}

function abandonment(): Error {
  return new Error('the round was abandoned')
}
