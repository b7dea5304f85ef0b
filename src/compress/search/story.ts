// The story of a search in words and figures: each candidate's fate with its reason, and the variants that are kept
// with the verdict under which they may answer. Pure.
import type { SearchCandidate, SearchReport } from '../../measurements.js'
import type { BuildResult } from '../build.js'
import { judge } from '../gate.js'
import { divide, mayServe, type Standing } from './front.js'
import { knownOf, type Contender, type Trial } from './contender.js'
import { slowerAt } from './trial.js'

/** A variant of the front. One that is slower than the source model somewhere is `sizeOnly`, whatever its recipe promises; one that is not is not. */
export type KeptVariant = BuildResult & { digest: string }

export interface Story {
  budgetSeconds: number
  elapsedSeconds: number
  /** The source model. */
  reference: Standing
  trials: readonly Trial[]
  /** Under which digests variants are kept, by recipe. */
  digests: ReadonlyMap<string, string>
}

const SOURCE = 'fp32'

export function reportOf({ budgetSeconds, elapsedSeconds, reference, trials, digests }: Story): SearchReport {
  const contenders = trials.flatMap(({ contender }) => contender ?? [])
  const { beatenBy } = divide<Standing>([reference, ...contenders])
  const nameOf = new Map<Standing, string>([[reference, SOURCE], ...contenders.map((contender): [Standing, string] => [contender, contender.built.name])])
  const fate = (entry: Standing, inFront: string): Pick<SearchCandidate, 'fate' | 'reason'> => {
    const winner = beatenBy.get(entry)
    if (winner === undefined) return { fate: 'front', reason: inFront }
    return { fate: 'dominated', reason: `${nameOf.get(winner)} is at least as good in latency, bytes and fidelity` }
  }
  const accuracy = contenders[0]?.built.report.fidelity.accuracy?.source
  const known = { recipe: SOURCE, seconds: 0, ...reference, ...(accuracy === undefined ? {} : { accuracy }) }
  const source: SearchCandidate = { ...known, ...fate(reference, 'the model as it came') }
  const tried = trials.map((trial): SearchCandidate => {
    const { contender, verdict } = trial
    const known = knownOf(trial)
    if (verdict !== undefined) return { ...known, ...verdict }
    const told = { ...known, ...fate(contender, merits(contender, reference)) }
    if (told.fate !== 'front') return told
    const digest = digests.get(contender.recipe)
    return { ...told, ...(mayServe(contender) ? {} : { pinnedOnly: true }), ...(digest === undefined ? {} : { variant: digest }) }
  })
  return { budgetSeconds, elapsedSeconds, candidates: [source, ...tried] }
}

/** The variant with the verdict that its last measurements give. */
export function variantOf(contender: Contender, minFidelity: number): KeptVariant {
  const { built, digest } = contender
  const { report } = built
  const sizeOnly = !mayServe(contender)
  const gate = judge({
    changedNodes: report.nodes.filter(({ action }) => action === 'done').length,
    finite: report.gate.finite,
    fidelity: contender.fidelity,
    minFidelity,
    latencies: report.gate.latencies,
    sizeOnly,
    sourceBytes: report.sourceBytes,
    variantBytes: report.variantBytes,
  })
  return { ...built, digest, sizeOnly, report: { ...report, gate } }
}

function merits(contender: Contender, { bytes }: Standing): string {
  const size = `${((contender.bytes / bytes) * 100).toFixed(0)} % of the bytes`
  if (!mayServe(contender)) return `${size} in ${slowerAt(contender)}: only for requests that pin it`
  const percents = contender.ratios.map(({ ratio }) => Math.round(ratio * 100))
  const [least, most] = [Math.min(...percents), Math.max(...percents)]
  return `${least === most ? least : `${least} to ${most}`} % of the time, ${size}`
}
