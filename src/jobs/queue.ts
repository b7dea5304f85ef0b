// What a job is and what a queue of them promises; sqlite-queue.ts is the default implementation.
import type { ErrorCode } from '../errors.js'

export type JobKind = 'compress' | 'search' | 'profile' | 'train' | 'shard'
export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'

export interface JobProgress {
  /** 0..1. */
  fraction: number
  /** What is being done now, e.g. `calibrating 12/32`. */
  step: string
  /** Seconds left, where it can be told. */
  etaS?: number
}

export interface Job {
  id: string
  kind: JobKind
  state: JobState
  /** Jobs with the same key that are queued or running are one job (single flight). */
  key: string
  payload: unknown
  progress: JobProgress
  log: readonly string[]
  /** Set when succeeded; what was found out so far where a running or cancelled job told. */
  result: unknown
  /** Set when failed. */
  error: { code: ErrorCode; detail: string } | undefined
  attempts: number
  /** ISO 8601. */
  createdAt: string
  startedAt: string | undefined
  finishedAt: string | undefined
}

export interface JobQueue {
  /** Adds a job, or returns the queued or running one with the same key (or the one created with the same idempotency key). */
  submit(kind: JobKind, payload: unknown, options: { key: string; idempotencyKey?: string }): Job
  /** @throws FlyweightError `job_not_found` */
  get(id: string): Job
  list(filter?: { state?: JobState; kind?: JobKind }): Job[]
  /** Queued or running: cancelled at once, and whoever runs it stops its process. Finished: left as it is. */
  cancel(id: string): Job
  /** Takes the oldest queued job and marks it running. */
  claim(): Job | undefined
  report(id: string, progress: JobProgress, logLine?: string): void
  /** Shows what a running job has found out so far as its result, which it remains if the job is cancelled. */
  noteResult(id: string, result: unknown): void
  /** Puts a running job back as if it had not been claimed: the gateway stops, the job is not at fault. */
  release(id: string): void
  /** Ends a running job; one that has already ended (cancelled meanwhile) is left as it is. */
  finish(
    id: string,
    outcome: { state: 'succeeded'; result: unknown } | { state: 'failed'; error: { code: ErrorCode; detail: string } } | { state: 'cancelled' },
  ): void
  /** Calls `listener` on every change of the job until it finishes; returns the unsubscribe function. `*` watches all jobs. */
  watch(id: string, listener: (job: Job) => void): () => void
  close(): void
}
