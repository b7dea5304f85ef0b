// From a wish to shard a model to a job: which variant, over which devices, cut how. What the job does is shard-job.ts's.
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { FlyweightError } from '../errors.js'
import type { Catalog } from '../registry/catalog.js'
import type { ModelVersion, Variant } from '../registry/model.js'
import type { DeviceSpec } from '../shard/device-spec.js'
import { kserveName, type KserveOptions } from '../shard/kserve.js'
import type { BuildSubject } from './build-subject.js'
import type { Job, JobQueue } from './queue.js'
import type { ShardCut, ShardPayload } from './shard-job.js'

/** A sharding that somebody wants. */
export interface ShardingWish extends ShardCut {
  model: string
  version?: string
  /** Name of the variant to cut; default the model itself. */
  variant?: string
  /** Names of devices; default all that are configured. */
  devices?: readonly string[]
  /** Rows. */
  microBatch?: number | 'auto'
  /** Default `local`. */
  target?: 'local' | 'kserve'
  /** With target `kserve`; the name is the model's where there is none. */
  kserve?: Omit<KserveOptions, 'name'> & { name?: string }
}

export interface ShardingsOptions {
  jobs: JobQueue
  catalog: Catalog
  resolve(name: string, version?: string): ModelVersion
  /** What every build needs to know of a model; jobs/builds.ts tells it. */
  subject(model: ModelVersion): BuildSubject
  devices: readonly DeviceSpec[]
  profileBudgetMs: number
  /** Folder for what is written for KServe, in a folder for each name. */
  kserveRoot: string
}

export class Shardings {
  readonly #options: ShardingsOptions

  constructor(options: ShardingsOptions) {
    this.#options = options
  }

  /**
   * Starts a sharding; one that is queued or running already is returned as it is.
   * @throws FlyweightError `model_not_found`, `model_not_ready`, `variant_not_found`, or `invalid_input` naming the field
   */
  start(wish: ShardingWish, options: { idempotencyKey?: string } = {}): Job {
    const { jobs, resolve, subject, profileBudgetMs, kserveRoot } = this.#options
    const { model: name, version, variant, devices, microBatch = 'auto', target = 'local', kserve, ...cut } = wish
    const model = resolve(name, version)
    const { id, source, recipe, file, fidelity, sizeOnly, ...parent } = this.#parent(model, variant)
    const chosen = this.#devices(devices)
    const count = wishedStages(cut)
    if (count !== 'auto' && count > chosen.length) {
      throw invalid(
        '/stages',
        `got ${count} stages for ${chosen.length} devices (${chosen.map((each) => each.name).join(', ')}), expected as many devices at least`,
      )
    }
    if ((target === 'kserve') !== (kserve !== undefined)) throw invalid('/kserve', `${kserve ? 'came' : 'is missing'} with target ${target}`)
    const resources = kserve && { ...kserve, name: kserveName(kserve.name ?? model.name) }
    const payload: ShardPayload = {
      ...subject(model),
      parent: { id, name: parent.name, source, recipe, file, fidelity, sizeOnly },
      ...cut,
      stages: count,
      devices: chosen,
      microBatch,
      profileBudgetMs,
      ...(resources === undefined ? {} : { kserve: { ...resources, folder: join(kserveRoot, resources.name) } }),
    }
    const key = `shard:${createHash('sha256').update(JSON.stringify(payload)).digest('hex')}`
    return jobs.submit('shard', payload, { key, ...options })
  }

  #parent(model: ModelVersion, name: string | undefined): Variant {
    const variants = this.#options.catalog.variants(model.name, model.version)
    const found = variants.find((variant) => (name === undefined ? variant.source : variant.name === name))
    if (found === undefined) {
      const detail = `got "${name}", expected one of ${variants.map((variant) => variant.name).join(', ')}`
      throw new FlyweightError('variant_not_found', `model ${model.name} has no variant "${name}"`, { errors: [{ pointer: '/variant', detail }] })
    }
    if (found.shards !== undefined) throw invalid('/variant', `got "${found.name}", which is in stages already; expected the variant that it was cut from`)
    return found
  }

  #devices(names: readonly string[] | undefined): readonly DeviceSpec[] {
    const { devices } = this.#options
    if (names === undefined) return devices
    return names.map((name) => {
      const found = devices.find((device) => device.name === name)
      if (found !== undefined) return found
      throw invalid('/devices', `got "${name}", expected some of ${devices.map((device) => device.name).join(', ')}, as sharding.devices has them`)
    })
  }
}

/** How many stages or parts a wish asks for. */
function wishedStages({ stages, cuts, patterns, strategy = 'pipeline' }: ShardCut): number | 'auto' {
  if (cuts !== undefined && patterns !== undefined) throw invalid('/patterns', 'came with cuts, expected one of the two')
  const [field, byHand] = cuts === undefined ? ['patterns', patterns?.length] : ['cuts', cuts.length + 1]
  if (byHand !== undefined && strategy === 'tensor') throw invalid(`/${field}`, 'came with strategy tensor, expected them for a pipeline only')
  if (byHand !== undefined && stages !== undefined && stages !== byHand) {
    throw invalid('/stages', `got ${stages} with ${field} that make ${byHand} stages, expected one of the two`)
  }
  const count = byHand ?? stages ?? 'auto'
  if (count !== 'auto' && count < 2) throw invalid(byHand === undefined ? '/stages' : `/${field}`, `got ${count} stage, expected 2 or more`)
  return count
}

function invalid(pointer: string, detail: string): FlyweightError {
  return new FlyweightError('invalid_input', `${pointer}: ${detail}`, { errors: [{ pointer, detail }] })
}
