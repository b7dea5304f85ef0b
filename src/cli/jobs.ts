// `flyweight jobs`: what a running gateway builds and measures, and cancelling it.
import type { GatewayClient } from './client.js'
import type { JobView } from './job-progress.js'
import { table, type Column } from './table.js'
import type { Terminal } from './terminal.js'

const columns: readonly Column<JobView>[] = [
  { head: 'job', cell: ({ id }) => id },
  { head: 'kind', cell: ({ kind }) => kind },
  { head: 'state', cell: ({ state }) => state },
  { head: 'done', cell: ({ progress }) => `${Math.round(progress.fraction * 100)} %`, align: 'right' },
  { head: 'created', cell: ({ createdAt }) => createdAt.slice(0, 19).replace('T', ' ') },
  { head: '', cell: ({ error, progress, state }) => error?.detail ?? (state === 'running' ? progress.step : '') },
]

/** Prints all jobs, newest first; with `cancel` cancels that one and prints what became of it. */
export async function jobs(terminal: Terminal, gateway: GatewayClient, { cancel }: { cancel?: string }): Promise<void> {
  const shown =
    cancel === undefined
      ? (await gateway.get<{ jobs: JobView[] }>('/admin/jobs')).jobs
      : [await gateway.delete<JobView>(`/admin/jobs/${encodeURIComponent(cancel)}`)]
  if (!terminal.interactive) for (const job of shown) terminal.json(job)
  else if (shown.length === 0) terminal.print('no jobs yet')
  else for (const line of table(columns, shown)) terminal.print(line)
}
