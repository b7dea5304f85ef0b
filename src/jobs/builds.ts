// From a wish for a variant to a job that builds it, at most one a model and recipe. Serves both who asks
// by name (admin routes) and who needs a faster variant now (serving's BuildPort).
import { isSearch, parseRecipe, recipeHash, variantName } from '../compress/recipe.js'
import { FlyweightError } from '../errors.js'
import type { Catalog } from '../registry/catalog.js'
import type { ModelVersion, Variant } from '../registry/model.js'
import type { BuildSubject } from './build-subject.js'
import type { CompressPayload } from './compress-job.js'
import type { ProfilePayload } from './profile-job.js'
import type { Job, JobQueue } from './queue.js'
import type { SearchPayload } from './search-job.js'

/** Where and how variants are made and measured. */
export interface BuildEnvironment {
  device: string
  threads: number
  machine: string
  batches: readonly number[]
  profileBudgetMs: number
  storeRoot: string
}

/** A variant that somebody wants; `budgetSeconds` is for a search. */
export interface Wish {
  model: string
  version?: string
  recipe: unknown
  budgetSeconds?: number
}

export interface BuildsOptions {
  jobs: JobQueue
  catalog: Catalog
  resolve(name: string, version?: string): ModelVersion
  environment: BuildEnvironment
  /** Folder of rows captured from the model's traffic, if there are any. */
  captured?(model: ModelVersion): string | undefined
}

const DEFAULT_ON_DEMAND = ['int8']
const DEFAULT_MIN_FIDELITY = 0.9
const DEFAULT_BUDGET_SECONDS = 60
/** What a search is called where variants are called by their recipe. */
const SEARCH_NAME = 'auto'

export class Builds {
  readonly #options: BuildsOptions
  /** Builds that failed without a verdict, and searches that ended: not tried again on demand until the gateway restarts. */
  readonly #done = new Set<string>()

  constructor(options: BuildsOptions) {
    this.#options = options
  }

  /**
   * Starts a build, or returns the variant if it was built before. Recipe `auto` starts a search.
   * @throws FlyweightError `invalid_recipe`; `model_not_found` or `model_not_ready`
   */
  compress(wish: Wish, options: { idempotencyKey?: string } = {}): { job?: Job; variant?: Variant } {
    const model = this.#options.resolve(wish.model, wish.version)
    const { name, key } = identify(model, wish.recipe)
    checkAllowed(model, name)
    if (isSearch(wish.recipe)) return { job: this.#search(model, wish.budgetSeconds ?? DEFAULT_BUDGET_SECONDS, { key, ...options }) }
    if (wish.budgetSeconds !== undefined) throw budgetWithoutSearch(name)
    const built = this.#built(model, name)
    if (built !== undefined) return { variant: built }
    return { job: this.#submit(model, wish.recipe, { name, key, ...options }) }
  }

  profile(name: string, version?: string): Job {
    const model = this.#options.resolve(name, version)
    return this.profileModel(model)
  }

  /** Measures the source variant of a model on this machine. */
  profileModel(model: ModelVersion): Job {
    const { device, threads, machine, batches, profileBudgetMs } = this.#options.environment
    const payload: ProfilePayload & { model: string; version: string } = {
      model: model.name,
      version: model.version,
      file: model.file,
      signature: model.signature,
      ...(model.samples === undefined ? {} : { samplesDir: model.samples }),
      batches: batchesOf(model, batches),
      device,
      threads,
      machine,
      budgetMs: profileBudgetMs,
    }
    return this.#options.jobs.submit('profile', payload, { key: `profile:${subjectOf(model)}:${machine}` })
  }

  /** BuildPort: the first recipe of the model's on-demand policy that was never tried. */
  next(model: ModelVersion): string | undefined {
    const allowed = model.manifest.policy?.onDemand ?? DEFAULT_ON_DEMAND
    return allowed.find((recipe) => {
      const { name, key } = identify(model, recipe)
      return this.#built(model, name) === undefined && !this.#done.has(key)
    })
  }

  /** BuildPort: resolves when the build has ended, well or not. */
  start(model: ModelVersion, recipe: string): Promise<void> {
    const { name, key } = identify(model, recipe)
    const job = isSearch(recipe) ? this.#search(model, DEFAULT_BUDGET_SECONDS, { key }) : this.#submit(model, recipe, { name, key })
    return new Promise((resolve) => {
      const settle = (latest: Job) => {
        if (latest.state === 'queued' || latest.state === 'running') return false
        if (latest.state === 'failed' || (latest.state === 'succeeded' && isSearch(recipe))) this.#done.add(key)
        resolve()
        return true
      }
      if (settle(job)) return
      const unwatch = this.#options.jobs.watch(job.id, (latest) => {
        if (settle(latest)) unwatch()
      })
    })
  }

  #built(model: ModelVersion, name: string): Variant | undefined {
    return this.#options.catalog.variants(model.name, model.version).find((variant) => variant.name === name && !variant.source)
  }

  #submit(model: ModelVersion, request: unknown, { name, key, idempotencyKey }: { name: string; key: string; idempotencyKey?: string }): Job {
    const { profileBudgetMs } = this.#options.environment
    const payload: CompressPayload = { ...this.subject(model), variantName: name, request, profileBudgetMs }
    return this.#options.jobs.submit('compress', payload, { key, ...(idempotencyKey === undefined ? {} : { idempotencyKey }) })
  }

  #search(model: ModelVersion, budgetSeconds: number, options: { key: string; idempotencyKey?: string }): Job {
    const present = this.#options.catalog.variants(model.name, model.version).map(({ id }) => id)
    const payload: SearchPayload = { ...this.subject(model), budgetSeconds, present }
    return this.#options.jobs.submit('search', payload, options)
  }

  /** What every build needs to know of a model, and of the place where its variants will run. */
  subject(model: ModelVersion): BuildSubject {
    const { device, threads, machine, batches, storeRoot } = this.#options.environment
    const captured = this.#options.captured?.(model)
    return {
      model: model.name,
      version: model.version,
      sourceFile: model.file,
      sourceDigest: model.digest,
      signature: model.signature,
      ...(model.samples === undefined ? {} : { samplesDir: model.samples }),
      ...(captured === undefined ? {} : { capturedDir: captured }),
      device,
      threads,
      machine,
      batches: batchesOf(model, batches),
      minFidelity: model.manifest.policy?.minFidelity ?? DEFAULT_MIN_FIDELITY,
      storeRoot,
    }
  }
}

/** The variant's name (preset, or the recipe's short name) and the key under which its build is one job. */
function identify(model: ModelVersion, request: unknown): { name: string; key: string } {
  if (isSearch(request)) return { name: SEARCH_NAME, key: `search:${subjectOf(model)}` }
  const { preset, recipe } = parseRecipe(request)
  const name = preset ?? variantName(recipe ?? [])
  return { name, key: `compress:${subjectOf(model)}:${preset ?? recipeHash(recipe ?? [])}` }
}

/** What a job is about: the same file under another name is another model, with samples and variants of its own. */
function subjectOf({ name, version, digest }: ModelVersion): string {
  return `${name}:${version}:${digest}`
}

function checkAllowed(model: ModelVersion, name: string): void {
  const allowed = model.manifest.recipes
  if (allowed === undefined || allowed.some((recipe) => identify(model, recipe).name === name)) return
  const detail = `got ${name}, expected one of ${allowed.join(', ')}, as models/${model.name}/model.yaml allows`
  throw new FlyweightError('invalid_recipe', `this recipe is not allowed for ${model.name}: ${detail}`, { errors: [{ pointer: '/recipe', detail }] })
}

function budgetWithoutSearch(name: string): FlyweightError {
  const detail = `got it with recipe ${name}, expected it with recipe ${SEARCH_NAME} only`
  return new FlyweightError('invalid_recipe', `/budgetSeconds: ${detail}`, { errors: [{ pointer: '/budgetSeconds', detail }] })
}

function batchesOf(model: ModelVersion, batches: readonly number[]): readonly number[] {
  if (!model.signature.batchable) return [1]
  const most = model.manifest.policy?.maxBatch ?? Infinity
  return batches.filter((batch) => batch <= most)
}
