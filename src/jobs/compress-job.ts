// The compress job: builds one variant of a model, measures it beside its parent, and puts its artifact
// into the store. Runs in a job process; what the gateway does with the result is app.ts's business.
import { buildVariant } from '../compress/build.js'
import type { DecisionReport, Recipe } from '../measurements.js'
import { measureFootprint } from '../runtime/footprint.js'
import { builtVariant, openSubject, type BuildSubject, type BuiltVariant } from './build-subject.js'
import { sampleGradients } from './gradient-source.js'
import type { JobContext } from './job-context.js'
import { tuneOnSamples } from './tuning.js'

export interface CompressPayload extends BuildSubject {
  variantName: string
  /** Preset, short string or steps. */
  request: unknown
  profileBudgetMs: number
}

export interface CompressResult {
  variant: BuiltVariant
  report: DecisionReport
  recipe: Recipe
}

/** @throws FlyweightError as buildVariant does; a variant that the gate turns down comes back as `rejected`. */
export async function runCompressJob(payload: CompressPayload, { report: tell, signal }: JobContext): Promise<CompressResult> {
  const { device, threads, sourceFile } = payload
  tell({ fraction: 0, step: 'reading samples' })
  const start = performance.now()
  const { store, feeds, batches, maxBatch, release } = await openSubject(payload)
  const { feedsAt, rowDims, samples, evaluation, synthetic } = feeds
  const workDir = await store.makeTemporaryDirectory()
  const built = await buildVariant({
    sourceFile,
    sourceDigest: payload.sourceDigest,
    request: payload.request,
    gradients: sampleGradients,
    tune: tuneOnSamples,
    samples,
    ...(evaluation === undefined ? {} : { evaluation }),
    synthetic,
    maxBatch,
    feedsAt,
    batches,
    minFidelity: payload.minFidelity,
    device,
    threads,
    profileBudgetMs: payload.profileBudgetMs,
    workDir,
    signal,
    onProgress: (fraction, step) => {
      const etaS = fraction > 0.02 ? ((performance.now() - start) / 1000) * (1 / fraction - 1) : undefined
      tell({ fraction: fraction * 0.95, step, ...(etaS === undefined ? {} : { etaS }) })
    },
  })
  tell({ fraction: 0.95, step: 'measuring memory' })
  const footprint = await measureFootprint({ file: built.file, feeds: feedsAt(batches.at(-1) ?? 1), device, threads })
  const artifact = await store.putDirectory(workDir)
  await release()
  store.writeReport(artifact.digest, built.report)
  return { recipe: built.recipe, report: built.report, variant: builtVariant(payload, { name: payload.variantName, built, artifact, footprint, rowDims }) }
}
