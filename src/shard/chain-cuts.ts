// The best cuts of a workload in the order of its nodes, by dynamic programming: a stage is an interval of the order.
// Exact over all cut positions; of very long graphs only over the cheapest position of every few. Pure.
import { linkMs, type CostOptions, type Workload } from './stage-costs.js'

/** Above this, the square of the number of positions takes seconds. */
const MOST_POSITIONS = 1500
/** Sums of the same times in another order differ by less. */
const ROUNDING = 1e-9

/** One interval [from, to) of the nodes as a stage. */
interface Interval {
  computeMs: number
  weightBytes: number
  inBytes: number
  outBytes: number
}

/**
 * The assignment whose slowest stage is fastest, of those the one with the fewest bytes handed to stages; undefined where
 * no cut keeps all budgets, or what cannot pass is in the way of all.
 */
export function chainCuts(work: Workload, options: CostOptions): number[] | undefined {
  const { devices, msPerByte = 0 } = options
  const cost = ({ computeMs, weightBytes, inBytes, outBytes }: Interval, stage: number) => {
    const { speed = 1, budgetBytes = Infinity } = devices[stage] ?? {}
    return weightBytes > budgetBytes ? Infinity : computeMs / speed + linkMs(inBytes + outBytes, msPerByte)
  }
  const fastest = bestCuts(work, devices.length, { cost, join: Math.max })
  if (fastest === undefined) return undefined
  const limit = fastest.total * (1 + ROUNDING)
  const smallest = bestCuts(work, devices.length, {
    cost: (interval, stage) => (cost(interval, stage) <= limit ? interval.inBytes : Infinity),
    join: (sum, bytes) => sum + bytes,
  })
  return (smallest ?? fastest).assignment
}

/** The assignment whose largest share of a budget is least; undefined where what cannot pass is in the way of all. */
export function smallestCuts(work: Workload, { devices }: CostOptions): number[] | undefined {
  const share = ({ weightBytes, inBytes, outBytes }: Interval, stage: number) =>
    inBytes + outBytes === Infinity ? Infinity : weightBytes / (devices[stage]?.budgetBytes ?? Infinity)
  return bestCuts(work, devices.length, { cost: share, join: Math.max })?.assignment
}

interface Objective {
  cost(interval: Interval, stage: number): number
  join(total: number, cost: number): number
}

function bestCuts(work: Workload, stages: number, { cost, join }: Objective): { assignment: number[]; total: number } | undefined {
  const positions = cutPositions(work)
  const last = positions.length - 1
  const totals = Array.from({ length: stages + 1 }, () => new Float64Array(last + 1).fill(Infinity))
  const froms = Array.from({ length: stages + 1 }, () => new Int32Array(last + 1))
  totals[0]![0] = 0
  eachInterval(work, positions, (from, to, interval) => {
    for (let stage = 0; stage < stages; stage++) {
      const before = totals[stage]![from]!
      if (before === Infinity) continue
      const total = join(before, cost(interval, stage))
      if (total < totals[stage + 1]![to]!) {
        totals[stage + 1]![to] = total
        froms[stage + 1]![to] = from
      }
    }
  })
  const total = totals[stages]![last]!
  if (total === Infinity) return undefined
  const assignment = new Array<number>(work.nodes.length)
  for (let stage = stages, to = last; stage > 0; stage--) {
    const from = froms[stage]![to]!
    assignment.fill(stage - 1, positions[from], positions[to])
    to = from
  }
  return { assignment, total }
}

/** Where the order may be cut, ascending, both ends included: everywhere, or where least is alive of every few places. */
function cutPositions(work: Workload): number[] {
  const count = work.nodes.length
  const all = Array.from({ length: count + 1 }, (_, position) => position)
  if (count <= MOST_POSITIONS) return all
  const alive = liveBytes(work)
  const few = Math.ceil(count / MOST_POSITIONS)
  const chosen = new Set([0, count])
  for (let start = 1; start < count; start += few) {
    chosen.add(all.slice(start, Math.min(start + few, count)).reduce((best, position) => (alive[position]! < alive[best]! ? position : best)))
  }
  return all.filter((position) => chosen.has(position))
}

/** Bytes of the values written before each position and read at it or after. */
function liveBytes({ nodes, values }: Workload): Float64Array {
  const change = new Float64Array(nodes.length + 1)
  for (const { producer = -1, consumers, bytes } of values) {
    const last = consumers.at(-1)
    if (last === undefined || bytes === Infinity) continue
    change[producer + 1]! += bytes
    change[last + 1]! -= bytes
  }
  for (let position = 1; position < change.length; position++) change[position]! += change[position - 1]!
  return change
}

/** Visits all intervals between positions, those that begin earlier first. The interval handed over is used again. */
function eachInterval({ nodes, weights, values }: Workload, positions: readonly number[], visit: (from: number, to: number, interval: Interval) => void): void {
  const read = nodes.map((): number[] => [])
  const written = nodes.map((): number[] => [])
  for (const [index, { producer, consumers }] of values.entries()) {
    for (const consumer of consumers) read[consumer]?.push(index)
    if (producer !== undefined) written[producer]?.push(index)
  }
  const seenWeights = new Int32Array(weights.length).fill(-1)
  const seenValues = new Int32Array(values.length).fill(-1)
  for (const [from, start] of positions.entries()) {
    const sum = { computeMs: 0, weightBytes: 0, inBytes: 0, outBytes: 0 }
    // What cannot pass is counted, not added: infinity could not be taken away again.
    let stuck = 0
    for (let to = from + 1; to < positions.length; to++) {
      for (let index = positions[to - 1] as number; index < (positions[to] as number); index++) {
        const node = nodes[index]!
        sum.computeMs += node.ms
        for (const weight of node.weights) {
          if (seenWeights[weight] !== from) sum.weightBytes += weights[weight] as number
          seenWeights[weight] = from
        }
        for (const at of read[index]!) {
          const { producer = -1, bytes, consumers, output } = values[at]!
          if (producer >= start) {
            if (consumers.at(-1) !== index || output) continue
            if (bytes === Infinity) stuck--
            else sum.outBytes -= bytes
          } else if (seenValues[at] !== from) {
            seenValues[at] = from
            sum.inBytes += bytes
          }
        }
        for (const at of written[index]!) {
          const { bytes, consumers, output } = values[at]!
          if (consumers.length === 0 && !output) continue
          if (bytes === Infinity) stuck++
          else sum.outBytes += bytes
        }
      }
      visit(from, to, stuck > 0 ? { ...sum, outBytes: Infinity } : sum)
    }
  }
}
