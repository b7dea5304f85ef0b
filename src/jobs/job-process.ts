// The process of one job: gets a kind and a payload, reports progress, answers with a result or an
// error, ends. Started by fork from runner.ts, never imported. It ends with its gateway.
import { FlyweightError, messageOf, type ErrorCode } from '../errors.js'
import type { JobContext } from './job-context.js'
import type { JobKind, JobProgress } from './queue.js'

export interface JobTask {
  kind: JobKind
  payload: unknown
  /** URL; not part of the payload, as that is kept and shown, and this may have a password. */
  redis?: string
}
export type JobMessage =
  | { progress: JobProgress; logLine?: string }
  | { news: unknown; resultSoFar: unknown }
  | { result: unknown }
  | { error: { code: ErrorCode; detail: string } }

/** Progress is sent this often at most; a new step is always sent. */
const PROGRESS_INTERVAL_MS = 100

const abort = new AbortController()
process.once('SIGTERM', () => abort.abort())
// Ctrl-C reaches the whole process group; the gateway decides what becomes of its jobs.
process.on('SIGINT', () => {})
// The channel closes when the gateway dies: nobody is left to take the result.
process.once('disconnect', () => process.exit(1))
process.once('message', (task: JobTask) => {
  void run(task)
    .then((result): JobMessage => ({ result }))
    .catch((error: unknown): JobMessage => ({ error: describe(error) }))
    .then((message) => process.send?.(message, () => process.exit(0)))
})

async function run({ kind, payload, redis }: JobTask): Promise<unknown> {
  const context = { ...channelContext(), redis }
  switch (kind) {
    case 'compress':
      return (await import('./compress-job.js')).runCompressJob(payload as never, context)
    case 'search':
      return (await import('./search-job.js')).runSearchJob(payload as never, context)
    case 'train':
      return (await import('./train-job.js')).runTrainJob(payload as never, context)
    case 'shard':
      return (await import('./shard-job.js')).runShardJob(payload as never, context)
    case 'profile':
      return (await import('./profile-job.js')).runProfileJob(payload as never, context)
  }
}

function channelContext(): JobContext {
  let progress: JobProgress = { fraction: 0, step: 'starting' }
  let sentAt = 0
  const send = (message: JobMessage) => void process.send?.(message)
  return {
    report: (next) => {
      const isNewStep = next.step !== progress.step
      progress = next
      if (!isNewStep && performance.now() - sentAt < PROGRESS_INTERVAL_MS) return
      sentAt = performance.now()
      send({ progress })
    },
    log: (logLine) => send({ progress, logLine }),
    publish: (news, resultSoFar) => send({ news, resultSoFar }),
    signal: abort.signal,
  }
}

function describe(error: unknown): { code: ErrorCode; detail: string } {
  if (error instanceof FlyweightError) return { code: error.code, detail: error.message }
  return { code: 'internal', detail: messageOf(error) }
}
