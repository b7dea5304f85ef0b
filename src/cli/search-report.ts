// A search's report as text: the front as a table, then what became of every other candidate, and why.
import { meanRatio, SOURCE } from '../chart/pareto-points.js'
import { bytes, ratio } from '../chart/units.js'
import { wrap } from '../chart/wrap.js'
import type { SearchCandidate, SearchReport } from '../measurements.js'
import { table, type Column } from './table.js'
import type { Style, Terminal } from './terminal.js'

export interface SearchFlags {
  /** Seconds. */
  budget: number
  /** SVG file to write. */
  plot?: string
}

const STYLES: Readonly<Record<SearchCandidate['fate'], Style>> = { front: 'green', dominated: 'dim', rejected: 'red', failed: 'red', skipped: 'dim' }
const FATE_WIDTH = 'dominated'.length + 2
/** Enough of a digest to tell variants apart. */
const DIGEST_SHOWN = 8

/** No line is longer than `terminal.columns`, where these are enough for the figures. */
export function searchLines({ candidates, elapsedSeconds, budgetSeconds }: SearchReport, { columns, paint }: Pick<Terminal, 'columns' | 'paint'>): string[] {
  // The source is what the others are compared with, in the front or not.
  const front = candidates.filter(({ fate, recipe }) => fate === 'front' || recipe === SOURCE)
  const others = candidates.filter(({ fate }) => fate !== 'front')
  const pinnedOnly = front.some((candidate) => candidate.pinnedOnly)
  return [
    ...wrap(
      `${candidates.filter(({ recipe }) => recipe !== SOURCE).length} candidates in ${elapsedSeconds.toFixed(0)} s of ${budgetSeconds} s; the Pareto front of latency ÷ fp32’s, bytes and fidelity:`,
      columns,
    ),
    '',
    ...table(columnsOf(candidates), front, columns),
    ...(pinnedOnly
      ? ['', ...wrap('* in the front for its bytes, not proven as fast as fp32 at every batch size: answers only requests that pin it', columns)]
      : []),
    ...(others.length === 0 ? [] : ['', 'not in the front:']),
    ...others.flatMap(({ fate, recipe, reason }) => {
      const [first = '', ...rest] = [...wrap(recipe, columns - FATE_WIDTH), ...wrap(reason, columns - FATE_WIDTH).map((line) => paint('dim', line))]
      return [paint(STYLES[fate], fate) + ' '.repeat(FATE_WIDTH - fate.length) + first, ...rest.map((line) => ' '.repeat(FATE_WIDTH) + line)]
    }),
  ]
}

/** A few words for a line of progress: what serves fastest by now. */
export function bestSoFar(report: SearchReport | undefined): string {
  const serving = (report?.candidates ?? []).filter(
    ({ fate, recipe, ratios, pinnedOnly }) => fate === 'front' && recipe !== SOURCE && pinnedOnly !== true && ratios !== undefined,
  )
  const [best] = serving.sort((a, b) => meanRatio(a.ratios ?? []) - meanRatio(b.ratios ?? []))
  return best === undefined ? 'nothing faster yet' : `best ${ratio(meanRatio(best.ratios ?? []))} ${best.recipe}`
}

function columnsOf(candidates: readonly SearchCandidate[]): Column<SearchCandidate>[] {
  const batches = [...new Set(candidates.flatMap(({ ratios = [] }) => ratios.map(({ batch }) => batch)))].sort((a, b) => a - b)
  const labelled = candidates.some(({ accuracy }) => accuracy !== undefined)
  return [
    { head: 'recipe', cell: ({ recipe, pinnedOnly }) => recipe + (pinnedOnly === true ? ' *' : ''), wraps: true },
    ...batches.map(
      (size, index): Column<SearchCandidate> => ({
        head: index === 0 ? `batch ${size}` : String(size),
        cell: ({ ratios = [] }) => ratios.filter(({ batch }) => batch === size).map((own) => ratio(own.ratio))[0] ?? '',
        align: 'right',
      }),
    ),
    { head: 'bytes', cell: (candidate) => (candidate.bytes === undefined ? '' : bytes(candidate.bytes)), align: 'right' },
    { head: 'fidelity', cell: ({ fidelity }) => fidelity?.toFixed(4) ?? '', align: 'right' },
    ...(labelled
      ? [
          {
            head: 'accuracy',
            cell: ({ accuracy }: SearchCandidate) => (accuracy === undefined ? '' : `${(accuracy * 100).toFixed(2)} %`),
            align: 'right' as const,
          },
        ]
      : []),
    { head: 'variant', cell: ({ variant = '' }) => variant.slice(0, DIGEST_SHOWN) },
  ]
}
