// A uniform sample of rows on disk, one .npz file a row, within a number of bytes and rows. Each row gets a random
// key; those with the least keys that fit are kept, so that nothing but chance decides which (bottom-k sampling, the
// equal-weight case of Efraimidis and Spirakis 2006). Keys are the files' names: a restart goes on where it stopped.
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { copyFile, link, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface ReservoirLimits {
  maxBytes: number
  maxRows: number
}

/** Keys are whole numbers below this. */
export const KEYS = 2 ** 52
/** Rows larger than this share of the bytes are left out: a sample of fewer rows than that would tell nothing. */
const LARGEST_SHARE = 1 / 8
const STATE_FILE = 'state.json'

export class Reservoir {
  readonly folder: string
  readonly #limits: ReservoirLimits
  /** Ascending by key. */
  readonly #kept: { key: number; bytes: number }[] = []
  #bytes = 0
  /** Rows with this key or a greater one are not wanted: one of them was given up for want of room. */
  #threshold = KEYS
  /** Rows that came by, kept or not. */
  seen = 0

  /** Opens what `folder` holds, within `limits`. Reads names and sizes only. */
  constructor(folder: string, limits: ReservoirLimits) {
    this.folder = folder
    this.#limits = limits
    mkdirSync(folder, { recursive: true })
    for (const name of readdirSync(folder)) {
      if (/^[0-9a-f]{13}\.npz$/.test(name)) this.#insert(Number.parseInt(name, 16), statSync(join(folder, name)).size)
      else if (name !== STATE_FILE) rmSync(join(folder, name), { force: true })
    }
    this.#readState()
    // The state is older than the files after a kill; and the limits may have been lowered.
    for (const { key } of this.#makeRoom(KEYS, 0, 0)) rmSync(this.#fileOf(key), { force: true })
  }

  get rows(): number {
    return this.#kept.length
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Whether a row with this key would be kept, if it is not too large. */
  wants(key: number): boolean {
    return key < this.#threshold
  }

  /**
   * Keeps a row, given as an .npz file, in place of those with greater keys where there is no room. Not to be
   * called again before it is done.
   */
  async keep(key: number, file: Uint8Array): Promise<'kept' | 'not-wanted' | 'too-large'> {
    if (file.byteLength > this.#limits.maxBytes * LARGEST_SHARE) return 'too-large'
    if (!this.wants(key)) return 'not-wanted'
    const given = this.#makeRoom(key, file.byteLength, 1)
    if (given.length > 0) {
      // First: a row that was given up must never be wanted again.
      await this.save()
      for (const row of given) await rm(this.#fileOf(row.key), { force: true })
    }
    if (!this.wants(key)) return 'not-wanted'
    const staged = join(this.folder, `${nameOf(key)}.tmp`)
    await writeFile(staged, file)
    await rename(staged, this.#fileOf(key))
    this.#insert(key, file.byteLength)
    return 'kept'
  }

  /** Writes down what the files do not tell. */
  async save(): Promise<void> {
    const staged = join(this.folder, `${STATE_FILE}.tmp`)
    await writeFile(staged, JSON.stringify({ seen: this.seen, threshold: this.#threshold }))
    await rename(staged, join(this.folder, STATE_FILE))
  }

  /** Deletes every row and begins anew. */
  async clear(): Promise<void> {
    this.#kept.length = 0
    this.#bytes = 0
    this.#threshold = KEYS
    this.seen = 0
    await rm(this.folder, { recursive: true, force: true })
    await mkdir(this.folder, { recursive: true })
  }

  /** Gives up rows with the greatest keys until one more of `bytes` fits, or until its own key is the greatest. */
  #makeRoom(key: number, bytes: number, rows: 0 | 1): readonly { key: number; bytes: number }[] {
    const given: { key: number; bytes: number }[] = []
    while (this.#bytes + bytes > this.#limits.maxBytes || this.#kept.length + rows > this.#limits.maxRows) {
      const last = this.#kept.at(-1)
      if (last === undefined || (rows === 1 && last.key < key)) {
        this.#threshold = Math.min(this.#threshold, key)
        break
      }
      this.#kept.pop()
      this.#bytes -= last.bytes
      this.#threshold = last.key
      given.push(last)
    }
    return given
  }

  #insert(key: number, bytes: number): void {
    const at = this.#kept.findIndex((other) => other.key > key)
    this.#kept.splice(at < 0 ? this.#kept.length : at, 0, { key, bytes })
    this.#bytes += bytes
  }

  #readState(): void {
    try {
      const { seen, threshold } = JSON.parse(readFileSync(join(this.folder, STATE_FILE), 'utf8')) as { seen: number; threshold: number }
      this.seen = Math.max(seen, this.rows)
      this.#threshold = threshold
    } catch {
      this.seen = this.rows
    }
  }

  #fileOf(key: number): string {
    return join(this.folder, `${nameOf(key)}.npz`)
  }
}

/** A view of the rows as they are now that later changes do not touch: links where the disk allows them, else copies. */
export async function freezeRows(folder: string, into: string): Promise<void> {
  for (const name of await readdir(folder).catch((): string[] => [])) {
    if (!name.endsWith('.npz')) continue
    const [from, to] = [join(folder, name), join(into, name)]
    await link(from, to)
      .catch(() => copyFile(from, to))
      // Given up between the two looks.
      .catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error
      })
  }
}

function nameOf(key: number): string {
  return key.toString(16).padStart(13, '0')
}
