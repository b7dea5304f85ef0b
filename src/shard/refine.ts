// Better assignments than intervals of one order: where branches lie side by side, nodes move between neighbouring
// stages. Moves are tried in runs, as Fiduccia and Mattheyses (1982) do: each run makes the best move there is, even a
// bad one, with every node at most once, and the best state on its way is kept. Pure.
import { bottleneckMs, crossingBytes, stageCosts, type CostOptions, type Workload } from './stage-costs.js'

/** A run ends after so many moves that led to nothing better. */
const PATIENCE = 40
/** Visits of nodes and values, for all of a refinement: about a second. */
const MOST_WORK = 2e8

/** First what the slowest stage takes, then the bytes handed to stages. */
type Score = readonly [number, number]

/** An assignment at least as good; edges stay forward, budgets kept, and no stage gets empty. */
export function refined(work: Workload, assignment: readonly number[], options: CostOptions): number[] {
  const state = [...assignment]
  const neighbours = neighboursOf(work)
  const price = work.nodes.length + work.values.length
  let left = MOST_WORK / price
  const score = (): Score => {
    left--
    return scoreOf(work, state, options)
  }
  let best = score()
  for (let improved = true; improved && left > 0; ) {
    improved = false
    for (let stage = 0; stage + 1 < options.devices.length; stage++) {
      const found = run(state, { stage, neighbours, score, best, spent: () => left <= 0 })
      if (found !== undefined) [best, improved] = [found, true]
    }
  }
  return state
}

interface Neighbours {
  before: readonly (readonly number[])[]
  after: readonly (readonly number[])[]
}

interface Run {
  /** Nodes move between this one and the next. */
  stage: number
  neighbours: Neighbours
  score(): Score
  best: Score
  spent(): boolean
}

/** Changes `state` to the best found; undefined, and `state` as before, where nothing is better than `best`. */
function run(state: number[], { stage, neighbours: { before, after }, score, best, spent }: Run): Score | undefined {
  const movable = state.flatMap((at, index) => (at === stage || at === stage + 1 ? [index] : []))
  const locked = new Set<number>()
  const moves: number[] = []
  const flip = (index: number) => {
    state[index] = state[index] === stage ? stage + 1 : stage
  }
  const allowed = (index: number) =>
    state[index] === stage ? after[index]!.every((other) => state[other]! > stage) : before[index]!.every((other) => state[other]! <= stage)
  let [kept, found] = [0, best]
  while (moves.length - kept < PATIENCE && !spent()) {
    let next: { index: number; score: Score } | undefined
    for (const index of movable) {
      if (locked.has(index) || !allowed(index)) continue
      flip(index)
      const reached = score()
      flip(index)
      if (reached[0] < Infinity && (next === undefined || better(reached, next.score))) next = { index, score: reached }
    }
    if (next === undefined) break
    flip(next.index)
    locked.add(next.index)
    moves.push(next.index)
    if (better(next.score, found)) [kept, found] = [moves.length, next.score]
  }
  for (const index of moves.slice(kept)) flip(index)
  return kept > 0 ? found : undefined
}

function better([ms, bytes]: Score, [otherMs, otherBytes]: Score): boolean {
  const same = Math.abs(ms - otherMs) <= 1e-9 * otherMs
  return same ? bytes < otherBytes : ms < otherMs
}

/** Infinite where a stage is empty or exceeds its budget. */
function scoreOf(work: Workload, assignment: readonly number[], options: CostOptions): Score {
  const costs = stageCosts(work, assignment, options)
  const fits = costs.every(({ weightBytes }, stage) => weightBytes <= (options.devices[stage]?.budgetBytes ?? Infinity) && assignment.includes(stage))
  return [fits ? bottleneckMs(costs) : Infinity, crossingBytes(costs)]
}

function neighboursOf({ nodes, values }: Workload): Neighbours {
  const [before, after] = [nodes.map((): number[] => []), nodes.map((): number[] => [])]
  for (const { producer, consumers } of values) {
    if (producer === undefined) continue
    after[producer]?.push(...consumers)
    for (const consumer of consumers) before[consumer]?.push(producer)
  }
  return { before, after }
}
