// Sums of vectors in the order they are given, so that they have the same bits every time.
import type { Vector } from './messages.js'

/** Makes each vector the sum of all, in place: no memory is taken, as each rank gets back what it sent. */
export function makeAllTheSum([first, ...others]: readonly Vector[]): void {
  if (first === undefined) return
  for (const vector of others) for (let at = 0; at < first.length; at++) first[at]! += vector[at] as number
  for (const vector of others) vector.set(first)
}
