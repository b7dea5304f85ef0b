// What a stage holds of micro-batches: values that came from other stages, and what its forward passes keep for its
// backward passes. Counts the bytes between the two passes, which are what schedules differ in.
import { byteSize, type Tensor } from '../../tensor/tensor.js'
import type { Handover } from './messages.js'

type Values = Map<string, Tensor>

export class HeldValues {
  /** Most bytes that were kept at once for backward passes. */
  peakStashBytes = 0
  readonly #values = new Map<string, Values>()
  /** Micro-batches between their two passes, and what they keep. */
  readonly #stashed = new Map<string, ReadonlySet<string>>()
  #waiting: { key: string; names: readonly string[]; resolve: () => void; reject: (error: Error) => void } | undefined
  #abandoned = false

  put({ step, micro, tensors }: Handover): void {
    const key = keyOf(step, micro)
    const values = this.#of(key)
    for (const [name, tensor] of Object.entries(tensors)) values.set(name, tensor)
    const waiting = this.#waiting
    if (waiting?.key !== key || !waiting.names.every((name) => values.has(name))) return
    this.#waiting = undefined
    waiting.resolve()
  }

  /** The values, once all are there; one micro-batch is waited for at a time. Rejects once all is abandoned. */
  async take(step: number, micro: number, names: readonly string[]): Promise<Record<string, Tensor>> {
    const key = keyOf(step, micro)
    const values = this.#of(key)
    if (this.#abandoned) throw abandonment()
    if (!names.every((name) => values.has(name))) {
      await new Promise<void>((resolve, reject) => {
        this.#waiting = { key, names, resolve, reject }
      })
    }
    return Object.fromEntries(names.map((name) => [name, values.get(name) as Tensor]))
  }

  /** Between its passes a micro-batch keeps these alone; `kept` values that are still to come are kept when they do. */
  stash(step: number, micro: number, kept: ReadonlySet<string>): void {
    const key = keyOf(step, micro)
    const values = this.#of(key)
    for (const name of values.keys()) if (!kept.has(name)) values.delete(name)
    this.#stashed.set(key, kept)
    this.#count()
  }

  /** After the backward pass. */
  forget(step: number, micro: number): void {
    this.#count()
    this.#values.delete(keyOf(step, micro))
    this.#stashed.delete(keyOf(step, micro))
  }

  abandon(): void {
    this.#abandoned = true
    this.#waiting?.reject(abandonment())
  }

  #of(key: string): Values {
    const known = this.#values.get(key) ?? new Map<string, Tensor>()
    this.#values.set(key, known)
    return known
  }

  #count(): void {
    let bytes = 0
    for (const [key, kept] of this.#stashed) for (const [name, tensor] of this.#of(key)) if (kept.has(name)) bytes += byteSize(tensor)
    this.peakStashBytes = Math.max(this.peakStashBytes, bytes)
  }
}

function keyOf(step: number, micro: number): string {
  return `${step}:${micro}`
}

function abandonment(): Error {
  return new Error('the training was abandoned')
}
