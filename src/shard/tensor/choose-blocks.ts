// Which blocks to compute in parts: those that gain more time than handing on their results takes, and large layers, so
// that no device needs to hold them alone; more where budgets ask for it. Pure.
import { linkMs, type CostOptions } from '../stage-costs.js'
import { shareUnits } from './axis-split.js'

export interface BlockCost {
  kind: 'sum' | 'concat'
  units: number
  /** On a device of speed 1. */
  ms: number
  weightBytes: number
  /** Of what it gives. */
  bytes: number
}

/** Layers with this share of all weights are not left to each device alone. */
const LARGE = 1 / 16

/** Sets of blocks to try, by index, those with the fewest first; each has all of the one before. */
export function blockSets(costs: readonly BlockCost[], totalBytes: number, options: CostOptions): number[][] {
  const all = [...costs.keys()]
  const large = all.filter((block) => costs[block]!.weightBytes >= totalBytes * LARGE)
  const paying = all.filter((block) => pays(costs[block]!, options))
  const sums = all.filter((block) => costs[block]!.kind === 'sum')
  const sets = paying.length === 0 ? [[...sums, ...large], all] : [[...paying, ...large], [...paying, ...large, ...sums], all]
  return sets.map((set) => [...new Set(set)].sort((a, b) => a - b)).filter((set, index, kept) => set.length > 0 && set.length > (kept[index - 1]?.length ?? 0))
}

/** Each part hands on its result, and takes in those of all. */
function pays({ kind, units, ms, bytes }: BlockCost, { devices, msPerByte = 0, msPerHop = 0 }: CostOptions): boolean {
  const speeds = devices.map(({ speed = 1 }) => speed)
  const shares = shareUnits(units, speeds).map(({ from, to }) => (to - from) / units)
  const slowest = Math.max(...shares.map((share, part) => (ms * share) / speeds[part]!))
  const passing = kind === 'sum' ? bytes * (1 + shares.length) : bytes * (1 + Math.max(...shares))
  return ms / Math.max(...speeds) - slowest > linkMs(passing, msPerByte) + msPerHop
}
