// What the results of jobs change: variants and profiles for the catalog, trained models for the repository.
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { FlyweightError } from '../errors.js'
import type { Catalog } from '../registry/catalog.js'
import type { Variant } from '../registry/model.js'
import type { Repository } from '../registry/repository.js'
import type { BuiltVariant } from './build-subject.js'
import type { CompressResult } from './compress-job.js'
import type { ProfileResult } from './profile-job.js'
import type { Job } from './queue.js'
import type { SearchNews } from './search-job.js'
import type { ShardResult } from './shard-job.js'
import type { ShownTraining, TrainJobResult } from './train-job.js'

/**
 * What a finished job changes: the catalog gets its variant or its profile.
 * @throws FlyweightError `conflict` when the model is no longer the one the job worked on
 */
export function applyResult(catalog: Catalog, job: Job, result: unknown): void {
  const source = sourceOf(catalog, job)
  switch (job.kind) {
    case 'compress':
      return saveBuilt(catalog, (result as CompressResult).variant)
    case 'shard': {
      const { variant } = result as ShardResult
      return variant && saveBuilt(catalog, variant)
    }
    case 'profile':
      return catalog.saveProfile(source.id, (result as ProfileResult).profile)
    case 'search':
      // Its variants came as news.
      return
    case 'train':
      throw new Error('a trained model is no variant of its source')
  }
}

/**
 * What a search found so far, while it goes on: the catalog gets its variants, and gives up those that better ones replaced.
 * @throws FlyweightError `conflict` as above
 */
export function applyNews(catalog: Catalog, job: Job, { variants, withdrawn }: SearchNews): void {
  sourceOf(catalog, job)
  for (const variant of variants) saveBuilt(catalog, variant)
  for (const id of withdrawn) if (catalog.variant(id)?.pinned === false) catalog.deleteVariant(id)
}

/**
 * A trained model becomes a version of the model that it was trained as. Returns what the job shows: the file is gone.
 * @throws FlyweightError as uploads do
 */
export async function takeTrained(repository: Repository, { file, ...shown }: TrainJobResult): Promise<ShownTraining> {
  await repository.add({ name: shown.as, modelFile: file })
  await rm(dirname(file), { recursive: true, force: true })
  return shown
}

/** The source variant of the model that a job works on. */
function sourceOf(catalog: Catalog, { payload }: Job): Variant {
  const { model, version, sourceFile, file = sourceFile } = payload as { model: string; version: string; file?: string; sourceFile?: string }
  const source = catalog.variants(model, version).find((variant) => variant.source)
  if (source === undefined || source.file !== file) throw new FlyweightError('conflict', `model ${model} version ${version} was replaced or removed meanwhile`)
  return source
}

function saveBuilt(catalog: Catalog, variant: BuiltVariant): void {
  const { pinned = false, createdAt = new Date().toISOString() } = catalog.variant(variant.id) ?? {}
  catalog.saveVariant({ ...variant, pinned, createdAt })
}
