// How many units each group loses, and which: pure policy over scores. Kept channels are rounded, because kernels
// compute whole blocks of them anyway; no group loses all.
import type { Group } from './groups.js'

export interface AllocationOptions {
  /** Share of the units to remove, 0..1. */
  ratio: number
  allocation: 'uniform' | 'global'
  /** Kept channels of a group are a multiple of this, or all. */
  roundTo: number
  /** Largest share that a group may lose. */
  maxRatio: number
}

export interface Candidate {
  group: Group
  scores: Float64Array
  /** Channels of a weight that one unit is: 1, or the width of a head. */
  width: number
}

/** The classes to remove: of each group those that score lowest, the first of equals. */
export function chooseUnits(candidates: readonly Candidate[], options: AllocationOptions): Set<number> {
  const shares = options.allocation === 'uniform' ? candidates.map(() => options.ratio) : globalShares(candidates, options.ratio)
  const removed = new Set<number>()
  for (const [position, { group, scores, width }] of candidates.entries()) {
    const drop = group.units.length - keptUnits(group.units.length, { ...options, share: shares[position] as number, width })
    const order = [...group.units.keys()].sort((a, b) => (scores[a] as number) - (scores[b] as number) || a - b)
    for (const unit of order.slice(0, drop)) removed.add(group.units[unit] as number)
  }
  return removed
}

/** Units that stay of `count` when `share` of them should go. */
function keptUnits(count: number, { share, width, roundTo, maxRatio }: { share: number; width: number; roundTo: number; maxRatio: number }): number {
  const step = roundTo / commonDivisor(roundTo, width)
  const least = Math.max(1, Math.ceil(count * (1 - maxRatio) - 1e-9))
  const wanted = Math.max(step, Math.round((count * (1 - share)) / step) * step)
  return Math.min(count, wanted < least ? Math.ceil(least / step) * step : wanted)
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b)
}

/** Share of each group among the lowest scores of all. */
function globalShares(candidates: readonly Candidate[], ratio: number): number[] {
  const all = candidates.flatMap(({ scores, width }, position) => Array.from(scores, (score) => ({ score, width, position })))
  all.sort((a, b) => a.score - b.score || a.position - b.position)
  const total = all.reduce((sum, { width }) => sum + width, 0)
  const lost = candidates.map(() => 0)
  let sum = 0
  for (const { width, position } of all) {
    if (sum + width > ratio * total + 1e-9) break
    sum += width
    lost[position]! += 1
  }
  return candidates.map(({ group }, position) => (lost[position] as number) / group.units.length)
}
