// What a coordinator and its ranks tell each other: plain objects that can be cloned or written to a wire. The coordinator
// has the data and the state of a training; ranks compute steps on their share of rows. Work goes in rounds: some steps
// from one state, by the same ranks throughout.
import type { ErrorCode } from '../../errors.js'
import type { Shard } from '../step.js'
import type { Batch, TrainState } from '../step-engine.js'
import type { StepSettings } from '../step-settings.js'

export type Vector = Float32Array<ArrayBuffer>

/** All that a rank needs to compute steps by itself. */
export interface RankPlan {
  /** The model that is trained, as a file's bytes without external data. */
  model: Uint8Array<ArrayBuffer>
  step: StepSettings
  /** Intra-op threads of the rank's sessions. */
  threads: number
}

/** A rank's part of one step. */
export interface ShareOfStep {
  learningRate: number
  /** Columns of the rank's rows. */
  rows: Batch
  /** The share of the step's rows that these are. */
  weight: number
}

/** A rank's place at a board, as it is sent to the rank's thread. */
export interface Seat {
  /** Another board has another number. */
  board: number
  memory: SharedArrayBuffer
  members: number
  /** Which of the members the rank is, from 0 on. */
  member: number
}

export interface Round {
  /** Counts up with every round that is begun. */
  round: number
  /** The completed round whose end this one starts from; undefined: from `state` alone. */
  from: number | undefined
  /** Vectors in place of those that the rank has; all of them for a rank that was not in round `from`. */
  state?: TrainState
  steps: readonly ShareOfStep[]
  /** Whether the rank's state is wanted at the end. */
  report: boolean
  /** With a sharded optimizer: what the rank updates, and has slots of. Slots in `state` are these elements. */
  shard?: Shard
  /** Where all members share memory: where they agree on vectors, in place of messages. */
  seat?: Seat
}

export type ToRank =
  | { kind: 'setup'; plan: RankPlan }
  | ({ kind: 'round' } & Round)
  /** The sum over ranks, in answer to the rank's own vector of the same bucket; `step` counts from 0 in the round. */
  | { kind: 'reduced'; round: number; step: number; bucket: number; vector: Vector; exact?: boolean }
  /** With a sharded optimizer: all parameters, in answer to the rank's slice of them. */
  | { kind: 'gathered'; round: number; step: number; vector: Vector }
  /** The round is over without a result: it begins again under another number. */
  | { kind: 'abandon'; round: number }
  | { kind: 'stop' }

export type FromRank =
  | { kind: 'ready' }
  /** The rank's part of a sum over ranks, multiplied by its weight; `exact`: it and the sum must not be rounded on the way. */
  | { kind: 'bucket'; round: number; step: number; bucket: number; vector: Vector; exact?: boolean }
  /** With a sharded optimizer: the rank's slice of the parameters after the step. */
  | { kind: 'slice'; round: number; step: number; vector: Vector }
  /** `losses`: one a step, means over the rank's own rows. With a sharded optimizer every rank has a state: at least slots. */
  | { kind: 'done'; round: number; losses: Vector; state?: TrainState }
  /** The rank cannot go on with the round, or, without one, cannot begin at all. */
  | { kind: 'failed'; round?: number; code: ErrorCode; message: string }

/** Buffers that a message may hand over rather than copy: the sender does not read them any more. */
export function handedOver(message: ToRank | FromRank): ArrayBuffer[] {
  if (message.kind === 'round')
    return message.steps.flatMap(({ rows }) => Object.values(rows).flatMap(({ data }) => (Array.isArray(data) ? [] : [data.buffer])))
  return 'vector' in message ? [message.vector.buffer] : []
}
