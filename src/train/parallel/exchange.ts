// How a rank agrees with the others on vectors within a round: an interface, as ranks of one process can do it in memory
// that they share (shared-exchange.ts), and the way over the coordinator's messages.
import type { Shard } from '../step.js'
import type { Answers } from './answers.js'
import type { FromRank, Vector } from './messages.js'

/** What a vector is of: `step` counts from 0 in the round, buckets from 0 in the step, in the order they are given. */
export interface Place {
  step: number
  bucket: number
}

/** Throws, or rejects, once the round is abandoned. */
export interface Exchange {
  /** This rank's part of a sum; the memory of `vector` is taken. `exact`: neither it nor the sum may be rounded on the way. */
  give(at: Place, vector: Vector, exact?: boolean): void
  /** The sum over ranks of what they gave: added in the order of ranks, so that all get the same bits every time. */
  take(at: Place): Promise<Vector>
  /** A whole vector of `count` elements, of which each rank has the elements of its shard; the memory of `slice` is taken. */
  gather(step: number, slice: Vector, whole: { shard: Shard; count: number }): Promise<Vector>
}

export function messageExchange(round: number, answers: Answers, send: (message: FromRank) => void): Exchange {
  return {
    give: (at, vector, exact) => send({ kind: 'bucket', round, ...at, vector, ...(exact === undefined ? {} : { exact }) }),
    take: ({ step, bucket }) => answers.take(step, bucket),
    gather: (step, slice) => {
      send({ kind: 'slice', round, step, vector: slice })
      return answers.take(step, 'gathered')
    },
  }
}
