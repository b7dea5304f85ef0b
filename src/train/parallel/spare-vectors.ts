// Vectors that nobody reads any more, to be written again: memory that is there costs nothing, while new memory has to be
// mapped, cleared and collected, at every step as much as the model is large.
import type { Vector } from './messages.js'

export class SpareVectors {
  readonly #bySize = new Map<number, Vector[]>()

  /** A vector of any values, the caller's until it gives it back. */
  take(count: number): Vector {
    return this.#bySize.get(count)?.pop() ?? new Float32Array(count)
  }

  give(vector: Vector): void {
    const known = this.#bySize.get(vector.length)
    if (known) known.push(vector)
    else this.#bySize.set(vector.length, [vector])
  }
}
