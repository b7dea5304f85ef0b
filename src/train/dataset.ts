// The rows that a model is trained on, as an interface: who reads them from where is not its business. Also the order in
// which training visits them.
import { FlyweightError } from '../errors.js'
import { mulberry32 } from '../runtime/sample-inputs.js'
import type { Tensor } from '../tensor/tensor.js'

export interface Dataset {
  readonly rows: number
  /**
   * Rows by their numbers, in that order: each column [rows.length, …], freshly allocated. `position` counts the rows
   * that training saw before: what is random about a row depends on it, so that training can be repeated and resumed.
   */
  read(rows: readonly number[], position: number): Record<string, Tensor> | Promise<Record<string, Tensor>>
}

/** Some rows of a dataset, as a dataset. */
export function subset(data: Dataset, rows: readonly number[]): Dataset {
  return {
    rows: rows.length,
    read: (chosen, position) =>
      data.read(
        chosen.map((row) => rows[row] as number),
        position,
      ),
  }
}

/** Divides rows at random into those to train on and those held out, at least one of each; the same for the same seed. */
export function holdOutRows(rows: number, share: number, seed: number): { train: number[]; heldOut: number[] } {
  const order = shuffled(rows, mulberry32(mixed(seed, -1)))
  const out = Math.min(rows - 1, Math.max(1, Math.round(rows * share)))
  const ascending = (some: number[]) => some.sort((a, b) => a - b)
  return { train: ascending(order.slice(out)), heldOut: ascending(order.slice(0, out)) }
}

/**
 * The endless sequence of rows: one shuffled epoch after the other, so that batches may reach across their ends and no
 * row is left out. Row numbers depend on seed and position alone: training resumes anywhere.
 */
export class ShuffledRows {
  readonly #rows: number
  readonly #seed: number
  #epoch = -1
  #order: number[] = []

  /** @throws FlyweightError `invalid_input` for no rows */
  constructor(rows: number, seed: number) {
    if (rows < 1) throw new FlyweightError('invalid_input', 'the training data has no rows, expected at least one')
    this.#rows = rows
    this.#seed = seed
  }

  /** Rows at positions `from` … `from + count − 1` of the sequence. */
  take(from: number, count: number): number[] {
    return Array.from({ length: count }, (_, index) => this.#at(from + index))
  }

  #at(position: number): number {
    const epoch = Math.floor(position / this.#rows)
    if (epoch !== this.#epoch) {
      this.#order = shuffled(this.#rows, mulberry32(mixed(this.#seed, epoch)))
      this.#epoch = epoch
    }
    return this.#order[position % this.#rows] as number
  }
}

/** Fisher and Yates' shuffle of 0 … count − 1 (Knuth, The Art of Computer Programming 2, algorithm P). */
export function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, index) => index)
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    const moved = order[last] as number
    order[last] = order[other] as number
    order[other] = moved
  }
  return order
}

/** A seed of its own for each epoch: neighbours must not give related streams. */
function mixed(seed: number, epoch: number): number {
  return (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(epoch + 1, 0xc2b2ae35)) >>> 0
}
