// What the coordinator of a pipeline and its stages tell each other. Values of micro-batches go from stage to stage,
// not through the coordinator: it starts steps, adds up what replicas and stages have to agree on, and takes the state.
import type { MessagePort } from 'node:worker_threads'
import type { ErrorCode } from '../../errors.js'
import type { Tensor } from '../../tensor/tensor.js'
import type { Batch, TrainState } from '../step-engine.js'
import type { ScheduleName } from './schedules.js'
import type { StageGraphs, StageUpdate } from './stage-graphs.js'

export type Vector = Float32Array<ArrayBuffer>

export interface StagePlan {
  stage: number
  stages: number
  /** Pipelines that compute the same on other rows. */
  replicas: number
  schedule: ScheduleName
  /** Intra-op threads of the stage's sessions. */
  threads: number
  update: StageUpdate
}

export interface MicroBatch {
  /** Which graphs it needs: those for so many rows. */
  rows: number
  columns: Batch
  /** Share of the step's rows. */
  weight: number
}

export interface StageStep {
  /** Counts up over the whole training. */
  step: number
  learningRate: number
  micro: readonly MicroBatch[]
}

export type ToStage =
  | { kind: 'setup'; plan: StagePlan }
  /** Comes before the first micro-batch of so many rows. */
  | { kind: 'graphs'; rows: number; graphs: StageGraphs }
  /** `state`: where to start from; absent: from where the stage is. */
  | { kind: 'run'; steps: readonly StageStep[]; state?: TrainState; report: boolean }
  /** Sums over replicas, in answer to `vectors`. */
  | { kind: 'sums'; vectors: readonly Vector[] }
  /** The norm over stages, in answer to `squares`. */
  | { kind: 'norm'; norm: number }
  | { kind: 'stop' }

export type FromStage =
  /** A replica's weighted gradients and statistics. */
  | { kind: 'vectors'; vectors: readonly Vector[] }
  /** Sum of the squares of the stage's gradients over all rows. */
  | { kind: 'squares'; squares: number }
  /** `losses`: one a step, the weighted sums over the replica's micro-batches, of the stage that computes losses. */
  | { kind: 'done'; losses: Vector; state?: TrainState; peakStashBytes: number }
  | { kind: 'failed'; code: ErrorCode; message: string }

/** From stage to stage. */
export interface Handover {
  step: number
  micro: number
  tensors: Readonly<Record<string, Tensor>>
}

/** What a stage's thread is started with. */
export interface StageStart {
  /** By stage, the way to it. */
  peers: ReadonlyMap<number, MessagePort>
}
