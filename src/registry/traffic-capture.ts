// Real inputs of the models whose model.yaml asks for it, sampled to disk for calibration and evaluation. Requests
// never wait for it and never fail by it: a row is copied only when its reservoir wants it, written later, and
// dropped when the disk is too slow. Which rows are kept is reservoir.ts's business.
import { rmSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../errors.js'
import { writeNpz } from '../tensor/npz.js'
import { copyRows } from '../tensor/rows.js'
import { byteSize, type Tensor } from '../tensor/tensor.js'
import type { ModelVersion } from './model.js'
import { KEYS, Reservoir, type ReservoirLimits } from './reservoir.js'

export interface CaptureObserver {
  rowsCaptured(model: string, rows: number): void
  /** Rows that chance had chosen and that could not be kept. */
  rowsNotCaptured(model: string, rows: number, reason: 'busy' | 'too-large' | 'failed'): void
}

export interface TrafficCaptureOptions {
  /** Folder of all captured rows. */
  root: string
  observer: CaptureObserver
  warn(fields: object, message: string): void
  /** Uniform in [0, 1); for tests. */
  random?: () => number
}

export interface CaptureStatus {
  enabled: boolean
  /** Rows and bytes on disk. */
  rows: number
  bytes: number
  /** Rows answered since capture began. */
  seen: number
  maxBytes: number
  maxRows: number
}

const DEFAULT_LIMITS: ReservoirLimits = { maxBytes: 64 * 2 ** 20, maxRows: 2000 }
/** Copies that may wait to be written. */
const MOST_WAITING_BYTES = 16 * 2 ** 20
/** How long the number of rows seen may be out of date on disk. */
const SAVE_AFTER_MS = 5000

interface Open {
  digest: string
  limits: ReservoirLimits
  reservoir: Reservoir
}

export class TrafficCapture {
  readonly #options: TrafficCaptureOptions
  readonly #open = new Map<string, Open>()
  /** Work on the disk, one thing after the other. */
  #work: Promise<void> = Promise.resolve()
  #waitingBytes = 0
  #saving: NodeJS.Timeout | undefined

  constructor(options: TrafficCaptureOptions) {
    this.#options = options
  }

  /** Begins or ends capture for a version as its manifest says. Rows of another file under this version are deleted. */
  follow(model: ModelVersion): void {
    const limits = limitsOf(model)
    const key = keyOf(model)
    const open = this.#open.get(key)
    if (limits === undefined) {
      this.#open.delete(key)
      return
    }
    if (open?.digest === model.digest && open.limits.maxBytes === limits.maxBytes && open.limits.maxRows === limits.maxRows) return
    try {
      const folder = this.#folderOf(model)
      for (const other of others(join(this.#options.root, model.name), model)) rmSync(other, { recursive: true, force: true })
      this.#open.set(key, { digest: model.digest, limits, reservoir: new Reservoir(folder, limits) })
    } catch (error) {
      this.#open.delete(key)
      this.#options.warn({ model: model.name, reason: messageOf(error) }, 'traffic cannot be captured')
    }
  }

  /** The rows of an answered request. Cheap where the model is not captured or no row is wanted; never throws. */
  offer(model: ModelVersion, inputs: Readonly<Record<string, Tensor>>): void {
    const open = this.#open.get(keyOf(model))
    if (open === undefined || open.digest !== model.digest) return
    try {
      this.#sample(model, open.reservoir, inputs)
    } catch (error) {
      this.#failed(model.name, error)
    }
  }

  /** Where the rows of a version are; undefined when it is not captured or there are none. */
  rowsOf(model: ModelVersion): string | undefined {
    const open = this.#open.get(keyOf(model))
    return open === undefined || open.reservoir.rows === 0 ? undefined : open.reservoir.folder
  }

  status(model: ModelVersion): CaptureStatus {
    const open = this.#open.get(keyOf(model))
    if (open === undefined) return { enabled: false, rows: 0, bytes: 0, seen: 0, ...DEFAULT_LIMITS }
    const { rows, bytes, seen } = open.reservoir
    return { enabled: true, rows, bytes, seen, ...open.limits }
  }

  /** Deletes the rows of a version, also those of a time when it was captured. */
  async clear(model: ModelVersion): Promise<void> {
    await this.#next(async () => {
      const open = this.#open.get(keyOf(model))
      for (const other of others(join(this.#options.root, model.name), { ...model, digest: '' })) {
        if (other !== open?.reservoir.folder) await rm(other, { recursive: true, force: true })
      }
      await open?.reservoir.clear()
    })
  }

  /** Deletes the rows of a model that is gone for good, or of one version of it. */
  async forget(name: string, version?: string): Promise<void> {
    for (const key of [...this.#open.keys()]) if (key === `${name}:${version}` || (version === undefined && key.startsWith(`${name}:`))) this.#open.delete(key)
    await this.#next(async () => {
      const folder = join(this.#options.root, name)
      const doomed = version === undefined ? [folder] : others(folder, { version, digest: '' })
      for (const each of doomed) await rm(each, { recursive: true, force: true })
    })
  }

  /** Resolves when everything offered is on disk. */
  async flush(): Promise<void> {
    clearTimeout(this.#saving)
    this.#saving = undefined
    await this.#next(async () => {
      for (const { reservoir } of this.#open.values()) await reservoir.save()
    })
  }

  #sample(model: ModelVersion, reservoir: Reservoir, inputs: Readonly<Record<string, Tensor>>): void {
    const { random = Math.random, observer } = this.#options
    const { batchable, inputs: specs } = model.signature
    const rows = batchable ? (inputs[specs[0]?.name ?? '']?.dims[0] ?? 0) : 1
    const rowBytes = Object.values(inputs).reduce((sum, tensor) => sum + byteSize(tensor), 0) / Math.max(1, rows)
    reservoir.seen += rows
    for (let row = 0; row < rows; row++) {
      const key = Math.floor(random() * KEYS)
      if (!reservoir.wants(key)) continue
      if (this.#waitingBytes + rowBytes > MOST_WAITING_BYTES) {
        observer.rowsNotCaptured(model.name, 1, 'busy')
        continue
      }
      const copy = new Map(
        specs.map(({ name }): [string, Tensor] => {
          const tensor = inputs[name] as Tensor
          return [name, batchable ? copyRows(tensor, row, row + 1) : { ...tensor, data: tensor.data.slice() }]
        }),
      )
      this.#waitingBytes += rowBytes
      void this.#next(() => this.#write(model.name, reservoir, { key, copy })).finally(() => (this.#waitingBytes -= rowBytes))
    }
    this.#saving ??= setTimeout(() => void this.flush(), SAVE_AFTER_MS).unref()
  }

  async #write(model: string, reservoir: Reservoir, { key, copy }: { key: number; copy: ReadonlyMap<string, Tensor> }): Promise<void> {
    if (![...this.#open.values()].some((open) => open.reservoir === reservoir)) return
    const outcome = await reservoir.keep(key, writeNpz(copy, { compress: false }))
    if (outcome === 'kept') this.#options.observer.rowsCaptured(model, 1)
    else if (outcome === 'too-large') this.#options.observer.rowsNotCaptured(model, 1, 'too-large')
  }

  /** Does `work` after all that came before; its failure is told and stops nothing. */
  #next(work: () => Promise<void>): Promise<void> {
    return (this.#work = this.#work.then(work).catch((error: unknown) => this.#failed('', error)))
  }

  #failed(model: string, error: unknown): void {
    this.#options.observer.rowsNotCaptured(model, 1, 'failed')
    this.#options.warn({ model, reason: messageOf(error) }, 'a row could not be captured')
  }

  #folderOf({ name, version, digest }: ModelVersion): string {
    return join(this.#options.root, name, folderName({ version, digest }))
  }
}

function limitsOf({ manifest: { capture } }: ModelVersion): ReservoirLimits | undefined {
  if (capture === undefined || capture === false) return undefined
  return { ...DEFAULT_LIMITS, ...(capture === true ? {} : capture) }
}

function keyOf({ name, version }: ModelVersion): string {
  return `${name}:${version}`
}

function folderName({ version, digest }: { version: string; digest: string }): string {
  return `${version}-${digest.slice(0, 16)}`
}

/** Folders of the same version and another digest. */
function others(folder: string, of: { version: string; digest: string }): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.startsWith(`${of.version}-`) && name !== folderName(of))
      .map((name) => join(folder, name))
  } catch {
    return []
  }
}
