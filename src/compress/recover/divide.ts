// Which samples are fitted and which only judge, so that no fit is judged by what it was made from.
import { evenlySpaced, rowsOf, type Samples } from '../samples.js'

/** One in so many samples is held out. */
export const HELD_OUT = 4

/** At most `most` of at least two samples, evenly spaced; every fourth, or the last of fewer, is held out. */
export function divide(samples: Samples, most: number): { fitted: Samples; held: Samples } {
  const used = evenlySpaced(samples, most)
  const isHeld = (row: number) => row % HELD_OUT === HELD_OUT - 1 || (used.rows < HELD_OUT && row === used.rows - 1)
  const rows = Array.from({ length: used.rows }, (_, row) => row)
  return {
    fitted: rowsOf(
      used,
      rows.filter((row) => !isHeld(row)),
    ),
    held: rowsOf(used, rows.filter(isHeld)),
  }
}
