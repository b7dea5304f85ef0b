// `flyweight compress <model>`: asks a running gateway for a variant, follows the job, shows the verdict.
// Compressing a file without a gateway is compress-file.ts.
import type { DecisionReport } from '../measurements.js'
import type { Variant } from '../registry/model.js'
import type { GatewayClient } from './client.js'
import { followJob, type JobView } from './job-progress.js'
import { reportLines } from './report.js'
import type { Terminal } from './terminal.js'

export interface CompressFlags {
  recipe: string
  version?: string
}

type VariantView = Omit<Variant, 'file'>

/** Resolves to the exit code: 0 admitted, 1 rejected by the gate. */
export async function compress(terminal: Terminal, gateway: GatewayClient, model: string, { recipe, version }: CompressFlags): Promise<number> {
  const answer = await gateway.post<VariantView | JobView>('/admin/compress', { model, recipe, ...(version === undefined ? {} : { version }) })
  const existing = 'fidelity' in answer
  const variantId = existing ? answer.id : variantIn(await followJob(terminal, gateway, answer.id))
  const [variant, report] = await Promise.all([
    gateway.get<VariantView>(`/admin/variants/${encodeURIComponent(variantId)}`),
    gateway.get<DecisionReport>(`/admin/variants/${encodeURIComponent(variantId)}/report`),
  ])
  if (!terminal.interactive) terminal.json({ variant, report })
  else {
    terminal.print(`${terminal.paint('bold', variant.id)}${existing ? ' exists already' : ''}`)
    for (const line of reportLines(report, terminal.paint)) terminal.print(line)
  }
  return report.gate.admitted ? 0 : 1
}

/** The variant that a finished compress job made. */
function variantIn(job: JobView): string {
  return (job.result as { variant: { id: string } }).variant.id
}
