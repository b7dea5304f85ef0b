// `flyweight compress <model> --recipe auto`: has a running gateway search for variants, follows the job and shows the front.
import { FlyweightError } from '../errors.js'
import type { SearchJobResult } from '../jobs/search-job.js'
import type { GatewayClient } from './client.js'
import { followJob, type JobView } from './job-progress.js'
import { checkFolderOf, writePlot } from './output-file.js'
import { bestSoFar, searchLines, type SearchFlags } from './search-report.js'
import type { Terminal } from './terminal.js'

/** Resolves to the exit code: 0 when the gateway has a variant of the front, 1 when nothing beats the source model. */
export async function search(
  terminal: Terminal,
  gateway: GatewayClient,
  model: string,
  { version, budget: budgetSeconds, plot }: SearchFlags & { version?: string },
): Promise<number> {
  if (plot !== undefined) await checkFolderOf(plot, '--plot')
  const { id } = await gateway.post<JobView>('/admin/compress', { model, recipe: 'auto', budgetSeconds, ...(version === undefined ? {} : { version }) })
  let best = bestSoFar(undefined)
  const done = await followJob(terminal, gateway, id, async ({ log = [], progress }) => {
    // A line in the log means that a candidate's fate is known; events do not carry the report.
    if (log.length > 0) best = bestSoFar(((await gateway.get<JobView>(`/admin/jobs/${id}`)).result as SearchJobResult | undefined)?.report)
    return `${best} | ${progress.step}`
  }).catch(async (error: unknown) => {
    throw error instanceof FlyweightError && error.code === 'cancelled' ? cancelled(await gateway.get<JobView>(`/admin/jobs/${id}`)) : error
  })
  const { report, kept } = done.result as SearchJobResult
  if (plot !== undefined) await writePlot(plot, report)
  if (!terminal.interactive) terminal.json({ job: id, report, kept, ...(plot === undefined ? {} : { plot }) })
  else for (const line of [...searchLines(report, terminal), ...(plot === undefined ? [] : ['', `wrote ${plot}`])]) terminal.print(line)
  return kept.length > 0 ? 0 : 1
}

/** What a search that somebody cancelled leaves: the gateway goes on with what it had found. */
function cancelled({ id, result }: JobView): FlyweightError {
  const { report, kept = [] } = (result ?? {}) as Partial<SearchJobResult>
  const tried = report?.candidates.filter(({ recipe, fate }) => recipe !== 'fp32' && fate !== 'skipped').length ?? 0
  const left = kept.length === 0 ? 'it leaves no variants' : `${bestSoFar(report)}; the gateway keeps ${kept.join(', ')}`
  return new FlyweightError('cancelled', `search ${id} was cancelled after ${tried} ${tried === 1 ? 'candidate' : 'candidates'}: ${left}`)
}
