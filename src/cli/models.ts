// `flyweight models`: what a running gateway serves, and what was measured about every variant.
import { bytes } from '../chart/units.js'
import type { ModelStatus, Variant } from '../registry/model.js'
import type { GatewayClient } from './client.js'
import { milliseconds, table, type Column } from './table.js'
import type { Terminal } from './terminal.js'

type VariantView = Omit<Variant, 'file'>

interface ModelRow extends ModelStatus {
  variants: readonly VariantView[]
}

/** Prints every model, or those named `name`; one JSON line a model where no person reads. */
export async function models(terminal: Terminal, gateway: GatewayClient, name?: string): Promise<void> {
  const [statuses, { variants }] = await Promise.all([
    name === undefined
      ? gateway.get<{ models: ModelStatus[] }>('/admin/models').then((answer) => answer.models)
      : gateway.get<{ states: ModelStatus[] }>(`/admin/models/${encodeURIComponent(name)}`).then((answer) => answer.states),
    gateway.get<{ variants: VariantView[] }>('/admin/variants'),
  ])
  const rows = statuses.map(({ name: model, version, state, reason }): ModelRow => {
    const own = variants.filter((variant) => variant.model === model && variant.version === version)
    return { name: model, version, state, reason, variants: own }
  })
  if (!terminal.interactive) for (const row of rows) terminal.json(row)
  else if (rows.length === 0) terminal.print('no models yet')
  else for (const row of rows) show(terminal, row)
}

function show(terminal: Terminal, { name, version, state, reason, variants }: ModelRow): void {
  const colour = state === 'READY' ? 'green' : 'yellow'
  terminal.print(`${terminal.paint('bold', `${name}:${version}`)} ${terminal.paint(colour, state)} ${terminal.paint('dim', reason)}`.trimEnd())
  const batches = [...new Set(variants.flatMap(({ profile }) => profile?.latencies.map(({ batch }) => batch) ?? []))].sort((a, b) => a - b)
  for (const line of table(columnsFor(batches), variants)) terminal.print(`  ${line}`)
  terminal.print('')
}

function columnsFor(batches: readonly number[]): readonly Column<VariantView>[] {
  return [
    { head: 'variant', cell: ({ name }) => name },
    { head: 'fidelity', cell: ({ fidelity }) => `${fidelity.score.toFixed(4)}${fidelity.synthetic ? '?' : ''}`, align: 'right' },
    ...batches.map((batch): Column<VariantView> => ({ head: `b${batch} p50/p99 ms`, cell: ({ profile }) => latencyAt(profile, batch), align: 'right' })),
    { head: 'resident', cell: ({ profile }) => (profile === undefined ? '-' : bytes(profile.residentBytes)), align: 'right' },
    { head: 'on disk', cell: (variant) => bytes(variant.bytes), align: 'right' },
    { head: 'state', cell: ({ state, sizeOnly, pinned }) => [state, ...(sizeOnly ? ['size only'] : []), ...(pinned ? ['pinned'] : [])].join(', ') },
    { head: '', cell: ({ reason }) => reason },
  ]
}

function latencyAt(profile: VariantView['profile'], batch: number): string {
  const latency = profile?.latencies.find((measured) => measured.batch === batch)
  return latency === undefined ? '-' : `${milliseconds(latency.p50Ms)} / ${milliseconds(latency.p99Ms)}`
}
