// The search job: looks for the best variants of a model within a time budget and hands each over as soon as it is
// found. Runs in a job process; how variants are found is compress/search/'s business.
import { cp, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { searchVariants } from '../compress/search/search.js'
import type { KeptVariant } from '../compress/search/story.js'
import type { SearchReport } from '../measurements.js'
import type { ArtifactStore, StoredArtifact } from '../registry/artifact-store.js'
import { measureFootprint, type Footprint } from '../runtime/footprint.js'
import { builtVariant, openSubject, type BuildSubject, type BuiltVariant } from './build-subject.js'
import type { JobContext } from './job-context.js'

export interface SearchPayload extends BuildSubject {
  budgetSeconds: number
  /** Ids of the variants that the model had before: the search may renew them, but takes none away. */
  present: readonly string[]
}

/** The job's result, and while it runs its result so far. */
export interface SearchJobResult {
  report: SearchReport
  /** Ids of the variants that it registered. */
  kept: readonly string[]
}

/** What the gateway can use at once. */
export interface SearchNews {
  variants: readonly BuiltVariant[]
  /** Ids of variants published before that better ones have replaced. */
  withdrawn: readonly string[]
}

/** @throws FlyweightError `invalid_model` or `invalid_input` where nothing can be searched; what becomes of candidates is in the report. */
export async function runSearchJob(payload: SearchPayload, { report: tell, publish, log, signal }: JobContext): Promise<SearchJobResult> {
  const { device, threads, minFidelity, budgetSeconds } = payload
  tell({ fraction: 0, step: 'reading samples' })
  const start = performance.now()
  const { store, feeds, batches, maxBatch, release } = await openSubject(payload)
  const { feedsAt, rowDims, samples, evaluation, synthetic } = feeds
  const workDir = await store.makeTemporaryDirectory()
  const published = new Map<string, { id: string; artifact: StoredArtifact; footprint: Footprint }>()
  let latest: SearchReport = { budgetSeconds, elapsedSeconds: 0, candidates: [] }
  const idsOf = (names: Iterable<string>) => [...names].map((name) => published.get(name)!.id)
  const resultSoFar = (): SearchJobResult => ({ report: latest, kept: idsOf(published.keys()) })

  const keep = async (variant: KeptVariant): Promise<string> => {
    const footprint = await measureFootprint({ file: variant.file, feeds: feedsAt(batches.at(-1) ?? 1), device, threads })
    const artifact = await storeCopy(store, variant)
    store.writeReport(artifact.digest, variant.report)
    const built = builtVariant(payload, { name: variant.name, built: variant, artifact, footprint, rowDims })
    published.set(variant.name, { id: built.id, artifact, footprint })
    publish({ variants: [built], withdrawn: [] } satisfies SearchNews, resultSoFar())
    return artifact.digest
  }
  const { report, kept } = await searchVariants(
    { file: payload.sourceFile, digest: payload.sourceDigest, samples, ...(evaluation === undefined ? {} : { evaluation }), synthetic, maxBatch, feedsAt },
    { budgetSeconds, batches, minFidelity, device, threads },
    {
      workDir,
      keep,
      signal,
      onReport: (next) => {
        latest = next
        const last = next.candidates.at(-1)
        if (last !== undefined) log(`${last.recipe}: ${last.fate}, ${last.reason}`)
        publish({ variants: [], withdrawn: [] } satisfies SearchNews, resultSoFar())
      },
      onProgress: (fraction, step) => tell({ fraction, step, etaS: Math.max(0, budgetSeconds - (performance.now() - start) / 1000) }),
    },
  )
  await Promise.all([release(), rm(workDir, { recursive: true, force: true })])
  const variants = kept.map((variant) => {
    const { artifact, footprint } = published.get(variant.name)!
    store.writeReport(artifact.digest, variant.report)
    return builtVariant(payload, { name: variant.name, built: variant, artifact, footprint, rowDims })
  })
  const names = new Set(kept.map(({ name }) => name))
  const replaced = [...published].filter(([name]) => !names.has(name))
  for (const [name] of replaced) published.delete(name)
  const withdrawn = replaced.map(([, { id }]) => id).filter((id) => !payload.present.includes(id))
  // In the order of the report: what was measured again may have come back to the front late.
  const result: SearchJobResult = { report, kept: idsOf(names) }
  publish({ variants, withdrawn } satisfies SearchNews, result)
  return result
}

/** The search goes on with its own copy: the store may keep the model packed only. */
async function storeCopy(store: ArtifactStore, { file }: KeptVariant): Promise<StoredArtifact> {
  const staging = await store.makeTemporaryDirectory()
  await cp(dirname(file), staging, { recursive: true })
  return store.putDirectory(staging)
}
