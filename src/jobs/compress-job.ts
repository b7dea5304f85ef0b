// The compress job: builds one variant of a model, measures it beside its parent, and puts its artifact
// into the store. Runs in a job process; what the gateway does with the result is app.ts's business.
import { rm } from 'node:fs/promises'
import type { DecisionReport, Recipe } from '../measurements.js'
import { buildVariant } from '../compress/build.js'
import { ArtifactStore } from '../registry/artifact-store.js'
import { variantId, type Signature, type Variant } from '../registry/model.js'
import { freezeRows } from '../registry/reservoir.js'
import { measureFootprint } from '../runtime/footprint.js'
import { feedSource } from './feed-source.js'
import type { JobContext } from './job-context.js'

export interface CompressPayload {
  model: string
  version: string
  variantName: string
  sourceFile: string
  sourceDigest: string
  signature: Signature
  /** Folder of sample inputs; without it noise measures speed, and nothing can be calibrated. */
  samplesDir?: string
  /** Folder of rows captured from traffic; it may change while the job runs. */
  capturedDir?: string
  /** Preset, short string or steps. */
  request: unknown
  device: string
  threads: number
  machine: string
  batches: readonly number[]
  profileBudgetMs: number
  minFidelity: number
  storeRoot: string
}

export interface CompressResult {
  variant: Omit<Variant, 'pinned' | 'createdAt'>
  report: DecisionReport
  recipe: Recipe
}

/** @throws FlyweightError as buildVariant does; a variant that the gate turns down comes back as `rejected`. */
export async function runCompressJob(payload: CompressPayload, { report: tell, signal }: JobContext): Promise<CompressResult> {
  const { model, version, signature, device, threads, machine, samplesDir, sourceFile } = payload
  tell({ fraction: 0, step: 'reading samples' })
  const start = performance.now()
  const batches = signature.batchable ? [...payload.batches].sort((a, b) => a - b) : [1]
  const store = new ArtifactStore(payload.storeRoot)
  // The store clears it when this process is gone.
  const capturedDir = payload.capturedDir === undefined ? undefined : await store.makeTemporaryDirectory()
  if (payload.capturedDir !== undefined && capturedDir !== undefined) await freezeRows(payload.capturedDir, capturedDir)
  const source = await feedSource({ file: sourceFile, signature, samplesDir, capturedDir, device, threads })
  const { feedsAt, rowDims, samples, evaluation, synthetic } = source
  const workDir = await store.makeTemporaryDirectory()
  const built = await buildVariant({
    sourceFile,
    sourceDigest: payload.sourceDigest,
    request: payload.request,
    samples,
    ...(evaluation === undefined ? {} : { evaluation }),
    synthetic,
    maxBatch: signature.batchable ? 32 : 1,
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
  const { residentBytes, loadMs } = await measureFootprint({ file: built.file, feeds: feedsAt(batches.at(-1) ?? 1), device, threads })
  const artifact = await store.putDirectory(workDir)
  if (capturedDir !== undefined) await rm(capturedDir, { recursive: true, force: true })
  store.writeReport(artifact.digest, built.report)
  const { admitted, reason } = built.report.gate
  return {
    recipe: built.recipe,
    report: built.report,
    variant: {
      id: variantId(model, version, payload.variantName),
      model,
      version,
      name: payload.variantName,
      source: false,
      recipe: built.recipe,
      ...artifact,
      fidelity: built.report.fidelity,
      profile: { machine, device, rowDims, latencies: built.latencies, residentBytes, loadMs, measuredAt: new Date().toISOString() },
      state: admitted ? 'ready' : 'rejected',
      reason: admitted ? '' : reason,
      sizeOnly: built.sizeOnly,
    },
  }
}
