// Follows a job of a running gateway to its end: a bar on a terminal, one JSON line a change otherwise.
import { FlyweightError, errorTable, type ErrorCode } from '../errors.js'
import type { GatewayClient } from './client.js'
import type { Terminal } from './terminal.js'

/** A job as `/admin/jobs/{id}` shows it. */
export interface JobView {
  id: string
  kind: string
  state: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'
  progress: { fraction: number; step: string; etaS?: number }
  /** In events: only the lines since the last. */
  log?: readonly string[]
  result?: unknown
  error?: { code: string; detail: string }
  createdAt: string
}

/**
 * Resolves to the succeeded job.
 * @param stepOf what to show of an event of a job that runs; default its step
 * @throws FlyweightError with the job's own code and detail when it fails, `cancelled` when somebody cancelled it.
 */
export async function followJob(terminal: Terminal, gateway: GatewayClient, id: string, stepOf = ownStep): Promise<JobView> {
  const bar = terminal.bar()
  let last: JobView | undefined
  try {
    for await (const job of gateway.events<JobView>(`/admin/jobs/${id}/events`)) {
      last = job
      const step = job.state === 'running' ? await stepOf(job) : job.state
      bar.update(job.progress.fraction, step, job.progress.etaS)
      if (!terminal.interactive && !finished(job)) terminal.json({ job: id, state: job.state, ...job.progress, step })
    }
  } finally {
    bar.stop()
  }
  // The gateway may have restarted under the stream; the job is durable, so ask for where it stands.
  if (last === undefined || !finished(last)) last = await gateway.get<JobView>(`/admin/jobs/${id}`)
  return outcomeOf(last)
}

async function ownStep({ progress }: JobView): Promise<string> {
  return progress.step
}

function finished({ state }: JobView): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled'
}

function outcomeOf(job: JobView): JobView {
  if (job.state === 'succeeded') return job
  if (job.state === 'cancelled') throw new FlyweightError('cancelled', `job ${job.id} was cancelled`)
  if (job.state !== 'failed') throw new FlyweightError('internal', `the stream of job ${job.id} ended while it was ${job.state}; see /admin/jobs/${job.id}`)
  const code = job.error?.code ?? 'internal'
  throw new FlyweightError(code in errorTable ? (code as ErrorCode) : 'internal', job.error?.detail ?? `job ${job.id} failed`)
}
