// Rows of a batch in parts that differ by one row at most.
import { copyRows } from '../../tensor/rows.js'
import type { Batch } from '../step-engine.js'

export interface PartOfRows {
  rows: Batch
  /** Of all rows. */
  share: number
}

/** Consecutive rows, the larger parts first: 22, 21 and 21 of 64; fewer parts where there are fewer rows. Copies. */
export function divideRows(batch: Batch, parts: number): PartOfRows[] {
  const total = Object.values(batch)[0]?.dims[0] ?? 0
  const count = Math.min(parts, total)
  let first = 0
  return Array.from({ length: count }, (_, part) => {
    const [begin, size] = [first, Math.floor(total / count) + (part < total % count ? 1 : 0)]
    first += size
    return { share: size / total, rows: Object.fromEntries(Object.entries(batch).map(([name, tensor]) => [name, copyRows(tensor, begin, begin + size)])) }
  })
}
