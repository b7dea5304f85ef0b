// What is known of variants, profiles and inspections, kept in SQLite and served from memory: requests
// read frozen objects, changes are written through. The catalog is an index, not a source: a lost or
// damaged file costs measurements, never models or artifacts.
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'libsql'
import { FlyweightError, messageOf } from '../errors.js'
import type { Profile } from '../measurements.js'
import type { Variant, VariantState } from './model.js'

const SCHEMA_VERSION = 1
const SCHEMA = `
  CREATE TABLE variants (id TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE profiles (digest TEXT NOT NULL, machine TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (digest, machine)) WITHOUT ROWID;
  CREATE TABLE inspections (digest TEXT NOT NULL, machine TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (digest, machine)) WITHOUT ROWID;
  CREATE TABLE files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = ${SCHEMA_VERSION};
`

export interface CatalogOptions {
  /** Fingerprint of this machine: profiles taken elsewhere are kept, but not shown. */
  machine: string
  /** Told when a damaged or foreign file was moved aside. */
  warn?: (message: string) => void
}

/** A change of one variant; `variant` is undefined when it was deleted. */
export interface CatalogChange {
  id: string
  variant: Variant | undefined
}

export class Catalog {
  readonly #database: Database.Database
  /** Fingerprint of this machine. */
  readonly machine: string
  readonly #variants = new Map<string, Variant>()
  readonly #byVersion = new Map<string, readonly Variant[]>()
  readonly #profiles = new Map<string, Profile>()
  readonly #listeners = new Set<(change: CatalogChange) => void>()

  /** Opens `file`, or makes it. A file that is damaged or of another schema is renamed to `<file>.damaged-<time>` and begun anew. */
  constructor(file: string, { machine, warn }: CatalogOptions) {
    mkdirSync(dirname(file), { recursive: true })
    this.machine = machine
    this.#database = openOrRebuild(file, warn)
    const rows = <Row>(sql: string, ...parameters: string[]) => this.#database.prepare(sql).all(...parameters) as Row[]
    for (const { digest, json } of rows<{ digest: string; json: string }>('SELECT digest, json FROM profiles WHERE machine = ?', machine)) {
      this.#profiles.set(digest, JSON.parse(json) as Profile)
    }
    for (const { json } of rows<{ json: string }>('SELECT json FROM variants')) this.#index(JSON.parse(json) as Variant)
  }

  /** Variants of one model version, the source model first, else by age; frozen, the same array until something changes. */
  variants(model: string, version: string): readonly Variant[] {
    return this.#byVersion.get(versionKey(model, version)) ?? []
  }

  variant(id: string): Variant | undefined {
    return this.#variants.get(id)
  }

  allVariants(): readonly Variant[] {
    return [...this.#variants.values()]
  }

  /** Adds or replaces a variant; its profile, if it has one, becomes this artifact's on the profile's machine. */
  saveVariant(variant: Variant): void {
    const { profile, ...rest } = variant
    this.#database.transaction(() => {
      this.#database.prepare('INSERT OR REPLACE INTO variants VALUES (?, ?)').run(variant.id, JSON.stringify(rest))
      if (profile) this.#writeProfile(variant.digest, profile)
    })()
    if (profile?.machine === this.machine) this.#profiles.set(variant.digest, profile)
    this.#publish({ ...rest, profile: undefined })
  }

  /** Removes a variant; deleting what is not there does nothing. */
  deleteVariant(id: string): void {
    const variant = this.#variants.get(id)
    if (!variant) return
    this.#database.prepare('DELETE FROM variants WHERE id = ?').run(id)
    this.#variants.delete(id)
    this.#regroup(variant)
    this.#emit({ id, variant: undefined })
  }

  /** @throws FlyweightError `variant_not_found` */
  setPinned(id: string, pinned: boolean): void {
    this.saveVariant({ ...this.#existing(id), pinned })
  }

  /** @throws FlyweightError `variant_not_found` */
  setState(id: string, state: VariantState, reason: string): void {
    this.saveVariant({ ...this.#existing(id), state, reason })
  }

  /** Keeps a measurement of the variant's artifact. @throws FlyweightError `variant_not_found` */
  saveProfile(id: string, profile: Profile): void {
    this.saveVariant({ ...this.#existing(id), profile })
  }

  /** What probation found out about a file on `machine`, as it was saved. */
  inspection(digest: string, machine: string): unknown {
    const [row] = this.#database.prepare('SELECT json FROM inspections WHERE digest = ? AND machine = ?').all(digest, machine) as { json: string }[]
    return row && (JSON.parse(row.json) as unknown)
  }

  saveInspection(digest: string, machine: string, inspection: unknown): void {
    this.#database.prepare('INSERT OR REPLACE INTO inspections VALUES (?, ?, ?)').run(digest, machine, JSON.stringify(inspection))
  }

  /** Digest of the file at `path` if it still has this stamp (size and times), so that it need not be read again. */
  knownDigest(path: string, stamp: string): string | undefined {
    const [row] = this.#database.prepare('SELECT digest FROM files WHERE path = ? AND stamp = ?').all(path, stamp) as { digest: string }[]
    return row?.digest
  }

  saveDigest(path: string, stamp: string, digest: string): void {
    this.#database.prepare('INSERT OR REPLACE INTO files VALUES (?, ?, ?)').run(path, stamp, digest)
  }

  /** Calls `listener` after every change of a variant; returns the function that stops it. */
  onChange(listener: (change: CatalogChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): void {
    this.#database.close()
  }

  #existing(id: string): Variant {
    const variant = this.#variants.get(id)
    if (!variant) throw new FlyweightError('variant_not_found', `there is no variant ${id}`)
    return variant
  }

  #writeProfile(digest: string, profile: Profile): void {
    this.#database.prepare('INSERT OR REPLACE INTO profiles VALUES (?, ?, ?)').run(digest, profile.machine, JSON.stringify(profile))
  }

  #publish(variant: Variant): void {
    this.#emit({ id: variant.id, variant: this.#index(variant) })
  }

  #index(stored: Omit<Variant, 'profile'>): Variant {
    const variant = deepFreeze({ ...stored, profile: this.#profiles.get(stored.digest) })
    this.#variants.set(variant.id, variant)
    this.#regroup(variant)
    return variant
  }

  #regroup({ id, model, version }: Variant): void {
    const key = versionKey(model, version)
    const current = this.#variants.get(id)
    const group = [...this.variants(model, version).filter((variant) => variant.id !== id), ...(current ? [current] : [])]
    group.sort((a, b) => Number(b.source) - Number(a.source) || a.createdAt.localeCompare(b.createdAt) || a.name.localeCompare(b.name))
    if (group.length === 0) this.#byVersion.delete(key)
    else this.#byVersion.set(key, Object.freeze(group))
  }

  #emit(change: CatalogChange): void {
    for (const listener of this.#listeners) listener(change)
  }
}

function versionKey(model: string, version: string): string {
  return `${model}:${version}`
}

function openOrRebuild(file: string, warn: CatalogOptions['warn']): Database.Database {
  try {
    return open(file)
  } catch (error) {
    const aside = `${file}.damaged-${Date.now()}`
    for (const suffix of ['', '-wal', '-shm']) if (existsSync(file + suffix)) renameSync(file + suffix, aside + suffix)
    warn?.(`the catalog ${file} cannot be used (${messageOf(error)}); it was moved to ${aside} and a new one begun`)
    return open(file)
  }
}

function open(file: string): Database.Database {
  const database = new Database(file)
  try {
    database.pragma('journal_mode = WAL')
    database.pragma('synchronous = NORMAL')
    const [row] = database.prepare('PRAGMA user_version').all() as { user_version: number }[]
    if (row?.user_version === 0) database.exec(`BEGIN; ${SCHEMA} COMMIT;`)
    else if (row?.user_version !== SCHEMA_VERSION) throw new Error(`its schema is version ${row?.user_version}, expected ${SCHEMA_VERSION}`)
    const [check] = database.prepare('PRAGMA quick_check(1)').all() as { quick_check: string }[]
    if (check?.quick_check !== 'ok') throw new Error(`it is damaged: ${check?.quick_check}`)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null && !Object.isFrozen(inner)) deepFreeze(inner)
  return Object.freeze(value)
}
