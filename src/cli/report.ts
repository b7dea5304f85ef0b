// A decision report as text: what a build did, what it gained, and whether the gate let it in.
import { bytes, ratio } from '../chart/units.js'
import type { DecisionReport, Fidelity, GateLatency } from '../measurements.js'
import { milliseconds, table, type Column } from './table.js'
import type { Terminal } from './terminal.js'

const latencyColumns: readonly Column<GateLatency>[] = [
  { head: 'batch', cell: ({ batch }) => String(batch), align: 'right' },
  { head: 'source ms', cell: ({ parentP50Ms }) => milliseconds(parentP50Ms), align: 'right' },
  { head: 'variant ms', cell: ({ variantP50Ms }) => milliseconds(variantP50Ms), align: 'right' },
  { head: 'ratio', cell: (latency) => ratio(latency.ratio), align: 'right' },
]

/** Lines that tell the verdict first, then latency, fidelity, bytes and what happened to the nodes. */
export function reportLines(report: DecisionReport, paint: Terminal['paint']): string[] {
  const { gate, fidelity, kernels, nodes, passes, chosenBecause, sourceBytes, variantBytes } = report
  return [
    `${gate.admitted ? paint('green', 'admitted') : paint('red', 'rejected')}: ${gate.reason}`,
    ...(chosenBecause === undefined ? [] : [`recipe    ${report.recipe.map(({ pass }) => pass).join(' + ')}: ${chosenBecause}`]),
    ...fidelityLines(fidelity, paint),
    `bytes     ${bytes(sourceBytes)} → ${bytes(variantBytes)}`,
    '',
    ...table(latencyColumns, gate.latencies),
    '',
    ...passes.map(({ pass, seconds, summary }) => `${pass} (${seconds.toFixed(1)} s): ${summary}`),
    ...(kernels === undefined ? [] : kernelLines(kernels, paint)),
    ...skipped(nodes),
  ]
}

/** How faithful, judged on which rows, and how often right. */
function fidelityLines(fidelity: Fidelity, paint: Terminal['paint']): string[] {
  const { score, definition, accuracy, labelsUnused } = fidelity
  return [
    `fidelity  ${score.toFixed(4)} over ${judgedOn(fidelity, paint)}`,
    paint('dim', `          ${definition}`),
    ...(accuracy === undefined ? [] : [`accuracy  ${percent(accuracy.variant)} of labels, source ${percent(accuracy.source)}`]),
    ...(labelsUnused === undefined ? [] : [paint('yellow', `accuracy  none, although there are labels: ${labelsUnused}`)]),
  ]
}

function judgedOn({ samples, synthetic, heldOut, calibrationSamples = 0 }: Fidelity, paint: Terminal['paint']): string {
  if (synthetic) return `${samples} samples${paint('yellow', ', on noise: give the model samples for a figure that means something')}`
  if (heldOut === true) return `${samples} held-out samples; ${calibrationSamples} others were there to calibrate on`
  if (heldOut === false) return `${samples} samples${paint('yellow', ', the same that were there to calibrate on: give more for some to be held out')}`
  return `${samples} samples`
}

/** Which integer kernels the runtime runs, and which nodes it computes in float although their weights are integers. */
function kernelLines({ counts, fellBack }: NonNullable<DecisionReport['kernels']>, paint: Terminal['paint']): string[] {
  const made = Object.entries(counts).map(([operator, count]) => `${count} ${operator}`)
  return [`kernels   ${made.join(', ') || 'none'}`, ...(fellBack.length === 0 ? [] : [paint('yellow', `          in float after all: ${fellBack.join(', ')}`)])]
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`
}

/** Reasons why nodes were left as they were, most frequent first. */
function skipped(nodes: DecisionReport['nodes']): string[] {
  const counts = new Map<string, number>()
  for (const { action, opType, reason } of nodes) {
    if (action === 'skipped') counts.set(`${opType}: ${reason}`, (counts.get(`${opType}: ${reason}`) ?? 0) + 1)
  }
  const byCount = [...counts].sort(([, a], [, b]) => b - a).slice(0, 8)
  return byCount.length === 0 ? [] : ['', 'left as they were:', ...byCount.map(([reason, count]) => `  ${count} × ${reason}`)]
}
