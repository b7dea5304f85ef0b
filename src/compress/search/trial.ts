// One trial of a search: builds a candidate, compares it with the source model and measures it. Which candidates are
// tried, and which of those that have a chance are kept, is search.ts's business.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { messageOf } from '../../errors.js'
import { buildVariant, type BuildResult } from '../build.js'
import { knownOf, type Contender, type Known, type Trial, type TrialRequest } from './contender.js'
import { mayServe, type Standing } from './front.js'
import { measure, type Measured } from './measure.js'

/** Rounds of a measurement a batch size at least: fewer than in the last one, which is to be believed. */
const LEAST_ROUNDS = 3

export interface TrialContext {
  /** The variant's folder is made in it; it is removed again where the trial leaves no contender. */
  folder: string
  earlier: readonly Trial[]
  /** Measuring time per batch size. */
  budgetMs: number
  /** Called while the variant is there, whether or not it stays. */
  look?(built: BuildResult): Promise<void>
}

/** Never rejects: whatever goes wrong is the candidate's fate. What has no chance is not measured. */
export async function tryRecipe(recipe: string, request: TrialRequest, context: TrialContext): Promise<Trial> {
  const start = performance.now()
  const workDir = await mkdtemp(join(context.folder, 'candidate-'))
  const trial = await attempt(recipe, { ...request, workDir }, context).catch((error: unknown): Trial => {
    const failed = { fate: 'failed', reason: messageOf(error) } as const
    const verdict = request.signal.aborted ? ({ fate: 'skipped', reason: `${messageOf(request.signal.reason)} while it was tried` } as const) : failed
    return { recipe, seconds: 0, verdict }
  })
  if (trial.contender === undefined) await rm(workDir, { recursive: true, force: true })
  return { ...trial, seconds: (performance.now() - start) / 1000 }
}

async function attempt(recipe: string, request: TrialRequest & { workDir: string }, { earlier, budgetMs, look }: TrialContext): Promise<Trial> {
  const part = (from: number, share: number) => (fraction: number, step: string) => request.onProgress?.(from + fraction * share, step)
  const built = await buildVariant({ ...request, request: recipe, batches: [], onProgress: part(0, 0.5) })
  await look?.(built)
  const { report, sizeOnly, file } = built
  const [bytes, fidelity, accuracy] = [report.variantBytes, report.fidelity.score, report.fidelity.accuracy?.variant]
  const known: Known = { recipe, seconds: 0, bytes, fidelity, ...(accuracy === undefined ? {} : { accuracy }) }
  const changed = report.nodes.some(({ action }) => action === 'done')
  // These are what the gate looks at first, so that its reason is about them.
  if (!changed || !report.gate.finite || !(fidelity >= request.minFidelity)) return { ...known, verdict: { fate: 'rejected', reason: report.gate.reason } }
  const digest = await digestOf(file)
  const twin = earlier.find(({ contender }) => contender?.digest === digest)
  // Two measurements of one model would prove nothing.
  if (twin !== undefined) return { ...known, verdict: { fate: 'dominated', reason: `it gives the same file as ${twin.contender?.built.name}` } }
  const measured = await measure(file, { ...request, budgetMs, leastRounds: LEAST_ROUNDS, onProgress: part(0.5, 0.5) })
  return withMeasured({ ...known, contender: { recipe, built, digest, bytes, fidelity, ratios: [], sizeOnly } }, measured, report.sourceBytes)
}

/** The trial as a measurement makes it look; as it was where there is none. */
export function withMeasured(trial: Trial & { contender: Contender }, measured: Measured | undefined, sourceBytes: number): Trial {
  if (measured === undefined) return trial
  const { latencies, gateLatencies } = measured
  const { built } = trial.contender
  const report = { ...built.report, gate: { ...built.report.gate, latencies: gateLatencies } }
  const ratios = gateLatencies.map(({ batch, ratio }) => ({ batch, ratio }))
  const contender: Contender = { ...trial.contender, ratios, built: { ...built, latencies, report } }
  const known = { ...knownOf(trial), ratios }
  const reason = uselessness(contender, sourceBytes)
  return reason === undefined ? { ...known, contender } : { ...known, verdict: { fate: 'rejected', reason } }
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
