// One trial of a search: builds a candidate, compares it with the source model and measures it. Which candidates are
// tried, and which of those that have a chance are kept, is search.ts's business.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { messageOf } from '../../errors.js'
import type { BatchLatency, GateLatency, SearchCandidate } from '../../measurements.js'
import { buildVariant, type BuildRequest, type BuildResult } from '../build.js'
import { mayServe, type Standing } from './front.js'

/** A candidate that is finite and faithful, and nowhere slower or smaller than the source model. */
export interface Contender extends Standing {
  recipe: string
  built: BuildResult
  /** SHA-256 of its file: different recipes may give the same model. */
  digest: string
}

/** Latencies of a variant, and the same beside those of the source model. */
export interface Measured {
  latencies: readonly BatchLatency[]
  gateLatencies: readonly GateLatency[]
}

type Known = Omit<SearchCandidate, 'fate' | 'reason'>

/** What is known of a candidate after its trial: with a verdict where it is out, as a contender where it is not. */
export type Trial = Known &
  ({ verdict: { fate: Exclude<SearchCandidate['fate'], 'front'>; reason: string }; contender?: undefined } | { verdict?: undefined; contender: Contender })

/** All but the recipe and its folder. */
export type TrialRequest = Omit<BuildRequest, 'request' | 'workDir'> & { signal: AbortSignal }

/**
 * Never rejects: whatever goes wrong is the candidate's fate. The variant's folder is made inside `folder`. `look` is
 * called while the variant is there, whether or not it stays.
 */
export async function tryRecipe(
  recipe: string,
  request: TrialRequest,
  { folder, look }: { folder: string; look?: (built: BuildResult) => Promise<void> },
): Promise<Trial> {
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  const workDir = await mkdtemp(join(folder, 'candidate-'))
  const trial = await attempt({ ...request, request: recipe, workDir }, { seconds, look })
  if (trial.contender === undefined) await rm(workDir, { recursive: true, force: true })
  return trial
}

async function attempt(
  request: BuildRequest & { request: string; signal: AbortSignal },
  { seconds, look }: { seconds: () => number; look: ((built: BuildResult) => Promise<void>) | undefined },
): Promise<Trial> {
  const recipe = request.request
  try {
    const built = await buildVariant(request)
    await look?.(built)
    const { variantBytes: bytes, fidelity, gate } = built.report
    const standing: Standing = {
      bytes,
      fidelity: fidelity.score,
      ratios: gate.latencies.map(({ batch, ratio }) => ({ batch, ratio })),
      sizeOnly: built.sizeOnly,
    }
    const accuracy = fidelity.accuracy?.variant
    const { sizeOnly: _, ...shown } = standing
    const known = { recipe, seconds: seconds(), ...shown, ...(accuracy === undefined ? {} : { accuracy }) }
    const reason = refusal(built, standing, request.minFidelity)
    if (reason !== undefined) return { ...known, verdict: { fate: 'rejected', reason } }
    return { ...known, contender: { ...standing, recipe, built, digest: await digestOf(built.file) } }
  } catch (error) {
    const verdict = request.signal.aborted
      ? ({ fate: 'skipped', reason: `${messageOf(request.signal.reason)} while it was tried` } as const)
      : ({ fate: 'failed', reason: messageOf(error) } as const)
    return { recipe, seconds: seconds(), verdict }
  }
}

/** The trial as a later measurement makes it look; as it was where there is none. */
export function measuredAgain(trial: Trial & { contender: Contender }, measured: Measured | undefined, sourceBytes: number): Trial {
  if (measured === undefined) return trial
  const { latencies, gateLatencies } = measured
  const { built } = trial.contender
  const report = { ...built.report, gate: { ...built.report.gate, latencies: gateLatencies } }
  const ratios = gateLatencies.map(({ batch, ratio }) => ({ batch, ratio }))
  const contender: Contender = { ...trial.contender, ratios, built: { ...built, latencies, report } }
  const known = { ...knownOf(trial), ratios }
  const reason = uselessness(contender, sourceBytes)
  return reason === undefined ? { ...known, contender } : { ...known, verdict: { fate: 'rejected', reason: `measured again, ${reason}` } }
}

export function knownOf({ verdict: _verdict, contender: _contender, ...known }: Trial): Known {
  return known
}

/** Why a variant is of no use, whatever the others are like; undefined where it may be of some. */
function refusal({ report }: BuildResult, standing: Standing, minFidelity: number): string | undefined {
  const changed = report.nodes.some(({ action }) => action === 'done')
  // These are what the gate looks at first, so that its reason is about them.
  if (!changed || !report.gate.finite || !(standing.fidelity >= minFidelity)) return report.gate.reason
  return uselessness(standing, report.sourceBytes)
}

/** Why a variant with these measurements is of no use: slower somewhere, and not smaller. */
function uselessness(standing: Standing, sourceBytes: number): string | undefined {
  if (mayServe(standing) || standing.bytes < sourceBytes) return undefined
  return `it is not faster than the source model (${slowerAt(standing)}) and not smaller`
}

/** Where a variant is slower than the source model, or hardly faster, in words. */
export function slowerAt(standing: Standing): string {
  const slower = standing.ratios.filter((one) => !mayServe({ ...standing, ratios: [one] }))
  return slower.map(({ batch, ratio }) => `${(ratio * 100).toFixed(1)} % of its time at batch ${batch}`).join(', ') || 'its time was not measured'
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}
