// The repository: which models there are, which of their versions are served, and why the others are
// not. Follows the folder `<root>/<name>/<version>/model.onnx`; what is served is always a copy in the
// artifact store, so a changed or broken file on disk never disturbs a version that works.
import { EventEmitter } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { FlyweightError, messageOf } from '../errors.js'
import { enterSource, takeIn, type IntakeContext } from './intake.js'
import { isModelName, readModelFolder, type FoundVersion, type ModelFolder } from './model-folder.js'
import type { ModelState, ModelStatus, ModelVersion } from './model.js'
import { createSlots } from './slots.js'
import { asBefore, isFromSource, keepAsBefore, type Version } from './version-entry.js'
import { clearUploads, placeUpload, type Upload } from './upload.js'
import { watchModels, type Watcher } from './watcher.js'

/** Models taken in at once; probation has a limit of its own. */
const CONCURRENCY = 4

/** pino's shape. */
export interface RepositoryLog {
  info(details: object, message: string): void
  warn(details: object, message: string): void
}

export interface RepositoryOptions extends IntakeContext {
  root: string
  log?: RepositoryLog
  /** Follow changes of the folder; default true. */
  watch?: boolean
}

interface Model {
  /** Newest first. */
  versions: Map<string, Version>
  /** By unload(): stays so until load(). */
  unloaded: boolean
  /** Settings at fault when no version is there to show it on. */
  reason: string
  /** The looks at the folder, one after the other. */
  work: Promise<void>
  waiting: boolean
}

/** Emits `ready` when a version is served, anew or changed (same version, another object), and `gone` when it no longer is. */
export class Repository extends EventEmitter<{ ready: [ModelVersion]; gone: [ModelVersion] }> {
  readonly #options: RepositoryOptions
  readonly #models = new Map<string, Model>()
  readonly #slots = createSlots(CONCURRENCY)
  #watcher: Watcher | undefined
  #closed = false
  /** Settled when every model found by start() was tried, well or not. Never rejects. */
  ready: Promise<void> = Promise.resolve()

  constructor(options: RepositoryOptions) {
    super()
    this.#options = options
  }

  /** Finds the models and starts to take them in; returns before that is done (see `ready`). */
  async start(): Promise<void> {
    const { root, watch = true } = this.#options
    await mkdir(root, { recursive: true })
    await clearUploads(root)
    if (watch) {
      const onError = (error: unknown) =>
        this.#options.log?.warn(
          { reason: messageOf(error) },
          'the models folder cannot be watched: load changed models by POST /v2/repository/models/{model}/load',
        )
      this.#watcher = watchModels(root, {
        onChange: (name) => void this.#lookAt(name),
        onReady: () => void this.#lookAtAll().catch(onError),
        onError,
      })
    }
    this.ready = Promise.all(await this.#lookAtAll()).then(() => this.#sweep())
  }

  /**
   * The version asked for, or the newest that can be served.
   * @throws FlyweightError `model_not_found`, or `model_not_ready` saying why
   */
  resolve(name: string, version?: string): ModelVersion {
    const model = this.#models.get(name)
    if (!model) throw new FlyweightError('model_not_found', `there is no model ${name}`)
    if (version !== undefined) {
      const wanted = model.versions.get(version)
      if (wanted?.served) return wanted.served
      if (wanted) throw this.#notReady(name, `model ${name} version ${version}`, wanted.state, wanted.reason)
      if (model.versions.size > 0)
        throw new FlyweightError('model_not_found', `model ${name} has no version ${version}, only ${[...model.versions.keys()].join(', ')}`)
    }
    for (const { served } of model.versions.values()) if (served) return served
    const [newest] = model.versions.values()
    throw this.#notReady(name, `model ${name}`, newest?.state ?? (model.waiting ? 'LOADING' : 'UNAVAILABLE'), newest?.reason ?? model.reason)
  }

  /** Versions that are served, newest first. @throws FlyweightError `model_not_found` */
  versions(name: string): readonly ModelVersion[] {
    const model = this.#existing(name)
    return [...model.versions.values()].flatMap(({ served }) => served ?? [])
  }

  /** Every version of every model, by name, newest first. A model whose settings cannot be read shows once, with an empty version. */
  list(): ModelStatus[] {
    return [...this.#models.keys()].sort().flatMap((name): ModelStatus[] => {
      const { versions, reason, waiting } = this.#models.get(name)!
      if (versions.size === 0) return [{ name, version: '', state: waiting ? 'LOADING' : 'UNAVAILABLE', reason }]
      return [...versions].map(([version, { state, reason: why }]) => ({ name, version, state, reason: why }))
    })
  }

  /**
   * Looks at the model's folder now, trying again what failed before, a quarantined source too.
   * @throws FlyweightError `model_not_found`; `invalid_model` or `invalid_config` when its newest version cannot be served, older ones go on
   */
  async load(name: string): Promise<void> {
    if (!isModelName(name)) throw new FlyweightError('model_not_found', `there is no model ${name}`)
    const model = this.#models.get(name)
    if (model) model.unloaded = false
    for (const [number, version] of model?.versions ?? []) if (version.reason !== '' || this.#isQuarantined(name, number)) version.stamp = ''
    await this.#lookAt(name)
    const [newest] = this.#existing(name).versions.values()
    const reason = newest ? newest.reason : this.#existing(name).reason
    if (reason !== '') throw new FlyweightError('invalid_model', `model ${name}: ${reason}`)
  }

  /** Stops serving all versions until load(); files and variants stay. @throws FlyweightError `model_not_found` */
  async unload(name: string): Promise<void> {
    const model = this.#existing(name)
    model.unloaded = true
    await this.#lookAt(name)
  }

  /**
   * Validates an upload in probation, then makes it a version (default: one above the newest) of a model, served at once.
   * @throws FlyweightError `invalid_model`; `conflict` when that version exists; `malformed`, `invalid_config`
   */
  async add(upload: Upload): Promise<ModelVersion> {
    const version = await placeUpload(upload, { ...this.#options, taken: [...(this.#models.get(upload.name)?.versions.keys() ?? [])] })
    const model = this.#models.get(upload.name)
    if (model) model.unloaded = false
    await this.#lookAt(upload.name)
    return this.resolve(upload.name, version)
  }

  /**
   * Deletes a model, or one version of it: files, variants and artifacts.
   * @throws FlyweightError `model_not_found`; `conflict` for a version that is not a folder of the repository
   */
  async remove(name: string, version?: string): Promise<void> {
    const { root, catalog, store } = this.#options
    const model = this.#existing(name)
    if (version !== undefined && !model.versions.has(version)) throw new FlyweightError('model_not_found', `model ${name} has no version ${version}`)
    const folder = version === undefined ? join(root, name) : join(root, name, version)
    if (!existsSync(folder)) throw new FlyweightError('conflict', `version ${version} of ${name} comes from its model.yaml; remove the whole model instead`)
    const doomed = catalog.allVariants().filter((variant) => variant.model === name && (version === undefined || variant.version === version))
    await rm(folder, { recursive: true, force: true })
    await this.#lookAt(name)
    for (const variant of doomed) catalog.deleteVariant(variant.id)
    for (const { digest } of doomed) if (!this.#isReferenced(digest)) await store.remove(digest)
  }

  /** Stops watching, and waits for what is being taken in. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#watcher?.close()
    await Promise.all([...this.#models.values()].map(({ work }) => work))
  }

  #existing(name: string): Model {
    const model = this.#models.get(name)
    if (!model) throw new FlyweightError('model_not_found', `there is no model ${name}`)
    return model
  }

  #notReady(name: string, what: string, state: ModelState, reason: string): FlyweightError {
    if (state !== 'LOADING') return new FlyweightError('model_not_ready', `${what} is not served: ${reason}`)
    this.#slots.prefer(name)
    return new FlyweightError('model_not_ready', `${what} is still being loaded`, { retryAfterS: 1 })
  }

  /** Begins a look at every model on disk, and at those that were. */
  async #lookAtAll(): Promise<Promise<void>[]> {
    const entries = await readdir(this.#options.root, { withFileTypes: true })
    const found = entries.filter((entry) => entry.isDirectory() || entry.isSymbolicLink()).map(({ name }) => name)
    const names = found.filter(isModelName)
    const odd = found.filter((name) => !isModelName(name) && !name.startsWith('.'))
    if (odd.length > 0) this.#options.log?.warn({ folders: odd }, 'these folders have no name a model may have: letters, digits, ".", "_" and "-", at most 100')
    return [...new Set([...names, ...this.#models.keys()])].map((name) => this.#lookAt(name))
  }

  /** Queues one look at a model's folder; the same look serves all who ask before it begins. */
  #lookAt(name: string): Promise<void> {
    let model = this.#models.get(name)
    if (!model) this.#models.set(name, (model = { versions: new Map(), unloaded: false, reason: '', work: Promise.resolve(), waiting: false }))
    if (model.waiting) return model.work
    const looked = model
    looked.waiting = true
    looked.work = looked.work.then(() =>
      this.#slots.take(name, async () => {
        looked.waiting = false
        if (!this.#closed) await this.#follow(name, looked)
      }),
    )
    return looked.work
  }

  async #follow(name: string, model: Model): Promise<void> {
    try {
      const folder = await readModelFolder(join(this.#options.root, name))
      for (const [version, entry] of model.versions) {
        if (!model.unloaded && folder?.versions.some((found) => found.version === version)) continue
        if (!model.unloaded && folder?.fault && isFromSource(entry)) {
          keepAsBefore(entry, folder.fault)
          continue
        }
        model.versions.delete(version)
        if (entry.served) this.#announce('gone', entry.served)
      }
      model.reason = folder?.fault?.message ?? ''
      if (!folder) {
        if (!model.waiting) this.#models.delete(name)
        return
      }
      this.#order(model, folder)
      for (const found of folder.versions) if (await this.#followVersion(name, model, folder, found)) void this.#lookAt(name)
    } catch (error) {
      model.reason = messageOf(error)
      this.#options.log?.warn({ model: name, reason: model.reason }, 'the model folder cannot be read')
    }
  }

  /** Makes an entry for every version on disk, newest first, beside those kept without one. */
  #order(model: Model, folder: ModelFolder): void {
    const before = model.versions
    const fresh = (): Version =>
      model.unloaded
        ? { served: undefined, state: 'UNAVAILABLE', reason: 'unloaded', stamp: '' }
        : { served: undefined, state: 'LOADING', reason: '', stamp: '' }
    const numbers = new Set([...folder.versions.map(({ version }) => version), ...before.keys()])
    model.versions = new Map([...numbers].sort((a, b) => Number(b) - Number(a)).map((version) => [version, before.get(version) ?? fresh()]))
  }

  /** @returns true when the files changed while they were read, so that another look is needed */
  async #followVersion(name: string, model: Model, folder: ModelFolder, found: FoundVersion): Promise<boolean> {
    const version = model.versions.get(found.version)
    const stamp = `${folder.stamp}\n${found.stamp}`
    if (!version || model.unloaded || version.stamp === stamp) return false
    version.stamp = stamp
    try {
      if (folder.fault) throw folder.fault
      const taken = await takeIn(name, found, folder, this.#options)
      version.served = taken
      version.state = 'READY'
      version.reason = ''
      enterSource(taken, this.#options)
      this.#options.log?.info({ model: name, version: found.version, digest: taken.digest }, 'model ready')
      this.#announce('ready', taken)
    } catch (error) {
      const reason = messageOf(error)
      version.state = version.served ? 'READY' : 'UNAVAILABLE'
      version.reason = version.served ? asBefore(reason) : reason
      this.#options.log?.warn({ model: name, version: found.version, reason }, 'model cannot be served as it is on disk')
    }
    const now = await readModelFolder(join(this.#options.root, name))
    return now?.versions.find((again) => again.version === found.version)?.stamp !== found.stamp
  }

  #announce(event: 'ready' | 'gone', model: ModelVersion): void {
    try {
      this.emit(event, model)
    } catch (error) {
      this.#options.log?.warn({ model: model.name, reason: messageOf(error) }, `a listener of "${event}" failed`)
    }
  }

  #isQuarantined(name: string, version: string): boolean {
    return this.#options.catalog.variants(name, version).some(({ source, state }) => source && state === 'quarantined')
  }

  #isReferenced(digest: string): boolean {
    if (this.#options.catalog.allVariants().some((variant) => variant.digest === digest)) return true
    return [...this.#models.values()].some(({ versions }) => [...versions.values()].some(({ served }) => served?.digest === digest))
  }

  async #sweep(): Promise<void> {
    await this.#options.store
      .sweep((digest) => this.#isReferenced(digest))
      .catch((error: unknown) => {
        this.#options.log?.warn({ reason: messageOf(error) }, 'artifacts that nothing uses could not be removed')
      })
  }
}
