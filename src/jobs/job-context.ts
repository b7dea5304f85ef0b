// What a job's function may do besides computing: say how far it is, and notice that it should stop.
import type { JobProgress } from './queue.js'

/** What the function behind a kind of job gets beside its payload. */
export interface JobContext {
  report(progress: JobProgress): void
  log(line: string): void
  /** Hands over what can be used at once, and the job's result so far. */
  publish(news: unknown, resultSoFar: unknown): void
  /** Aborted when the job is cancelled or the gateway stops; the process is killed soon after. */
  signal: AbortSignal
  /** URL of the Redis through which other machines take part; undefined where none is configured. */
  redis?: string | undefined
}
