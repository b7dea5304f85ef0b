// Ranks that take steps alone and then meet in the middle: what each is left with becomes one state again. Local SGD, Stich
// (2019); slots are averaged, too, as momentum is by Yu, Jin and Yang, "On the Linear Speedup Analysis of Communication
// Efficient Momentum SGD" (2019); an outer optimizer on what ranks found is DiLoCo, Douillard et al. (2023), arXiv 2311.08105.
import { STATE } from '../step.js'
import type { TrainState } from '../step-engine.js'
import type { Vector } from './messages.js'
import type { OuterSettings } from './parallel-settings.js'
import type { SpareVectors } from './spare-vectors.js'

/** The vector that holds the outer optimizer's momentum, as long as the parameters; zero at first. */
export const OUTER_MOMENTUM = 'outer_momentum'

export interface Meeting {
  /** Where all ranks set out from. */
  start: TrainState
  /** Where this one is. */
  state: TrainState
  /** The share of rows that it went by. */
  weight: number
  outer: OuterSettings | undefined
  spares: SpareVectors
}

/** A rank's part of a sum over ranks. */
export interface Part {
  vector: Vector
  /** Whether it keeps all its bits on the way. */
  exact: boolean
}

/**
 * The state that all ranks go on from: the mean over ranks, weighted by rows, of every vector; the parameters then take the
 * outer optimizer's step, where there is one. Vectors come from `spares`; those of the sums go there.
 * @param sum the sums over ranks of this rank's parts
 */
export async function meet({ start, state, weight, outer, spares }: Meeting, sum: (parts: readonly Part[]) => Promise<Vector[]>): Promise<TrainState> {
  const [before, after] = [start.vectors[STATE.parameters] as Vector, state.vectors[STATE.parameters] as Vector]
  const others = Object.entries(state.vectors).filter(([name]) => name !== STATE.parameters && name !== OUTER_MOMENTUM)
  const counts = others.map(([, { length }]) => length)
  const rest = spares.take(counts.reduce((total, count) => total + count, 0))
  let offset = 0
  for (const [, vector] of others) {
    for (let at = 0; at < vector.length; at++) rest[offset + at] = weight * (vector[at] as number)
    offset += vector.length
  }
  // How far the rank came, as what is rounded on the way is then small. Slots are sent as they are: of means of squares,
  // differences could leave numbers below zero.
  const moved = spares.take(after.length)
  for (let at = 0; at < moved.length; at++) moved[at] = weight * ((after[at] as number) - (before[at] as number))
  const [movement = moved, means = rest] = await sum([{ vector: moved, exact: false }, ...(rest.length === 0 ? [] : [{ vector: rest, exact: true }])])
  offset = 0
  const averaged = others.map(([name], index): [string, Vector] => {
    const mean = spares.take(counts[index] as number)
    mean.set(means.subarray(offset, offset + mean.length))
    offset += mean.length
    return [name, mean]
  })
  const followed = follow({ start, movement, outer, spares })
  for (const vector of [movement, means]) spares.give(vector)
  return { step: state.step, vectors: { ...Object.fromEntries(averaged), ...followed } }
}

/** Parameters after the movement, by SGD with Nesterov's momentum on its negative, and that momentum. */
function follow({ start, movement, outer, spares }: Pick<Meeting, 'start' | 'outer' | 'spares'> & { movement: Vector }): TrainState['vectors'] {
  const before = start.vectors[STATE.parameters] as Vector
  const parameters = spares.take(before.length)
  if (outer === undefined) {
    for (let at = 0; at < parameters.length; at++) parameters[at] = (before[at] as number) + (movement[at] as number)
    return { [STATE.parameters]: parameters }
  }
  const { learningRate, momentum } = outer
  const [old, kept] = [start.vectors[OUTER_MOMENTUM] as Vector, spares.take(before.length)]
  for (let at = 0; at < parameters.length; at++) {
    const moved = movement[at] as number
    kept[at] = momentum * (old[at] as number) - moved
    parameters[at] = (before[at] as number) - learningRate * (momentum * (kept[at] as number) - moved)
  }
  return { [STATE.parameters]: parameters, [OUTER_MOMENTUM]: kept }
}
