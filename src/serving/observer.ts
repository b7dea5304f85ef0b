// What serving tells whoever watches it. Telemetry implements this; serving knows no metrics library.
import type { ErrorCode } from '../errors.js'

export type SlaResult = 'met' | 'missed' | 'shed'

export interface RequestOutcome {
  model: string
  /** Absent when no variant ran. */
  variant: string | undefined
  /** `ok`, or the code of the error answered. */
  outcome: 'ok' | ErrorCode
  /** Absent when the request had no deadline. */
  sla: SlaResult | undefined
  priority: number
  fidelity: number | undefined
  queueMs: number
  inferMs: number
  totalMs: number
}

/** What one stage of a sharded variant did with a micro-batch. */
export interface StageOutcome {
  model: string
  variant: string
  stage: number
  device: string
  busyMs: number
  /** For its device, from when all that it reads was there. */
  waitMs: number
  inBytes: number
  outBytes: number
  /** Micro-batches that wait for the stage now. */
  queued: number
}

export interface ServingObserver {
  requestFinished(outcome: RequestOutcome): void
  batchFinished(batch: { model: string; variant: string; rows: number; inferMs: number }): void
  queueDepth(model: string, rows: number): void
  variantLoaded(load: { model: string; variant: string; lane: number; loadMs: number; bytes: number }): void
  variantEvicted(eviction: { model: string; variant: string; lane: number; bytes: number; reason: EvictionReason }): void
  memory(residentBytes: number, budgetBytes: number): void
  laneRestarted(lane: number, reason: string): void
  stageRan(run: StageOutcome): void
  deviceLost(device: string): void
}

/** Why a variant left memory. */
export type EvictionReason = 'budget' | 'idle' | 'unloaded' | 'manual' | 'lane-lost'
