// Takes jobs from the queue and runs each in a process of its own, below serving in priority and within
// limits. Whatever happens to that process, the job ends with a state and a reason. What a result
// means (a variant to admit, a profile to keep) is up to `apply`.
import { FlyweightError, messageOf, type ErrorCode } from '../errors.js'
import { startChild, type SupervisedChild } from '../runtime/supervised-child.js'
import type { JobMessage, JobTask } from './job-process.js'
import type { Job, JobQueue } from './queue.js'

export interface RunnerOptions {
  queue: JobQueue
  /** Jobs at once; default 1. */
  concurrency?: number
  /** Called with each result before its job counts as succeeded, returns what the job shows of it; a throw fails the job. */
  apply(job: Job, result: unknown): unknown
  /** Called with what a job hands over before its end; a throw fails the job. */
  applyNews?(job: Job, news: unknown): void
  log: { info(fields: object, message: string): void; warn(fields: object, message: string): void }
  /** Limit of one job process. Default 4 GiB. */
  memoryBytes?: number
  /** Default one hour. */
  timeoutMs?: number
  /** URL of the Redis through which other machines take part in jobs. */
  redis?: string | undefined
}

const NICENESS = 10

export class JobRunner {
  readonly #options: RunnerOptions
  readonly #running = new Map<string, { child: SupervisedChild; done: Promise<void> }>()
  #unwatch: (() => void) | undefined

  constructor(options: RunnerOptions) {
    this.#options = options
  }

  /** Begins to take jobs: those that wait already, then each as it is submitted. */
  start(): void {
    if (this.#unwatch) return
    this.#unwatch = this.#options.queue.watch('*', (job) => {
      if (job.state === 'queued') setImmediate(() => this.#fill())
      if (job.state === 'cancelled') void this.#running.get(job.id)?.child.stop()
    })
    this.#fill()
  }

  /** Takes no more jobs, stops the processes of those that run and puts them back in the queue. */
  async stop(): Promise<void> {
    this.#unwatch?.()
    this.#unwatch = undefined
    const running = [...this.#running.entries()]
    for (const [id] of running) this.#options.queue.release(id)
    await Promise.all(running.map(([, { child, done }]) => Promise.all([child.stop(), done])))
  }

  #fill(): void {
    while (this.#unwatch !== undefined && this.#running.size < (this.#options.concurrency ?? 1)) {
      const job = this.#options.queue.claim()
      if (job === undefined) return
      this.#launch(job)
    }
  }

  #launch(job: Job): void {
    const { queue, memoryBytes = 4 * 2 ** 30, timeoutMs = 3_600_000, redis, log } = this.#options
    log.info({ job: job.id, kind: job.kind, attempt: job.attempts }, 'job started')
    let answer: Exclude<JobMessage, { progress: unknown } | { news: unknown }> | undefined
    const child = startChild({
      entry: new URL('./job-process.js', import.meta.url),
      message: { kind: job.kind, payload: job.payload, ...(redis === undefined ? {} : { redis }) } satisfies JobTask,
      memoryBytes,
      timeoutMs,
      niceness: NICENESS,
      onMessage: (received) => {
        const message = received as JobMessage
        if ('progress' in message) queue.report(job.id, message.progress, message.logLine)
        else if ('news' in message) this.#takeNews(job, message, child)
        else answer = message
      },
    })
    const done = child.ended
      .then(async ({ reason, description }) => {
        if (reason === 'stopped') return
        if (answer === undefined) throw new FlyweightError('internal', `the job's process ${description} while ${queue.get(job.id).progress.step}`)
        // Stopped from outside, as when a service manager signals every process: not the job's fault.
        if ('error' in answer && answer.error.code === 'cancelled') return queue.release(job.id)
        if ('error' in answer) throw new FlyweightError(answer.error.code, answer.error.detail)
        // A job cancelled in its last moment must leave nothing behind.
        if (queue.get(job.id).state !== 'running') return
        const result = await this.#options.apply(job, answer.result)
        queue.finish(job.id, { state: 'succeeded', result })
        log.info({ job: job.id }, 'job succeeded')
      })
      .catch((error: unknown) => this.#fail(job, error))
      .finally(() => {
        this.#running.delete(job.id)
        this.#fill()
      })
    this.#running.set(job.id, { child, done })
  }

  #takeNews(job: Job, { news, resultSoFar }: Extract<JobMessage, { news: unknown }>, child: SupervisedChild): void {
    const { queue, applyNews } = this.#options
    // A cancelled job may still have sent some.
    if (queue.get(job.id).state !== 'running') return
    try {
      applyNews?.(job, news)
      queue.noteResult(job.id, resultSoFar)
    } catch (error) {
      this.#fail(job, error)
      void child.stop()
    }
  }

  #fail(job: Job, error: unknown): void {
    const failure = { code: codeOf(error), detail: messageOf(error) }
    this.#options.queue.finish(job.id, { state: 'failed', error: failure })
    this.#options.log.warn({ job: job.id, ...failure }, 'job failed')
  }
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof FlyweightError ? error.code : 'internal'
}
