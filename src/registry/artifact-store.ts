// The content-addressed store of model files: `<root>/<digest>/model.onnx`, its external data beside
// it, and report.json for what a build produced. Nothing half-written is ever visible: everything is
// made in `<root>/.tmp`, synced, and renamed into place. Knows nothing of names or versions.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { constants, copyFile, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, normalize, relative } from 'node:path'
import { FlyweightError } from '../errors.js'
import type { DecisionReport } from '../measurements.js'
import { externalFiles, resolveExternalFile } from '../onnx/external-data.js'
import { decodeModel } from '../onnx/proto.js'

const MODEL_FILE = 'model.onnx'
const REPORT_FILE = 'report.json'
const CHUNK_BYTES = 1 << 20
/** To put an artifact in the place of a damaged one, which others may be doing too. */
const MOST_ATTEMPTS = 5
const SWEEP_AGE_MS = 3_600_000

export interface StoredArtifact {
  /** SHA-256 (hex) over the model file and its external data. */
  digest: string
  /** The .onnx file inside the store. */
  file: string
  /** Model file and external data together. */
  bytes: number
}

export class ArtifactStore {
  readonly #root: string
  readonly #temporary: string
  #serial = 0

  /** Creates `root` if needed and clears what a killed process left half-made there. */
  constructor(root: string) {
    this.#root = root
    this.#temporary = join(root, '.tmp')
    mkdirSync(this.#temporary, { recursive: true })
    for (const name of readdirSync(this.#temporary)) {
      if (!isAlive(Number.parseInt(name, 10))) rmSync(join(this.#temporary, name), { recursive: true, force: true })
    }
  }

  /** Where the artifact's model is, whether or not it is there. */
  fileOf(digest: string): string {
    return join(this.#directoryOf(digest), MODEL_FILE)
  }

  has(digest: string): boolean {
    return existsSync(this.fileOf(digest))
  }

  /** The artifact as putFile returned it, without reading its content; undefined when it is not there. */
  async find(digest: string): Promise<StoredArtifact | undefined> {
    if (!this.has(digest)) return undefined
    const directory = this.#directoryOf(digest)
    const sizes = await Promise.all((await contentsOf(directory)).map(async (name) => (await stat(join(directory, name))).size))
    return { digest, file: join(directory, MODEL_FILE), bytes: sizes.reduce((sum, size) => sum + size, 0) }
  }

  /** An empty folder inside the store, for putDirectory; cleared at the next start if its process dies. */
  async makeTemporaryDirectory(): Promise<string> {
    const directory = join(this.#temporary, `${process.pid}-${Date.now()}-${this.#serial++}`)
    await mkdir(directory)
    return directory
  }

  /**
   * Copies a model and the external data files it names (which must lie inside its folder) into the store.
   * @throws FlyweightError `invalid_model` when external data is missing or points out of the model's folder.
   */
  async putFile(onnxFile: string): Promise<StoredArtifact> {
    const staging = await this.makeTemporaryDirectory()
    try {
      await copyFile(onnxFile, join(staging, MODEL_FILE), constants.COPYFILE_FICLONE)
      for (const name of await externalDataOf(join(staging, MODEL_FILE))) {
        const target = join(staging, name)
        await mkdir(dirname(target), { recursive: true })
        await copyFile(await resolveExternalFile(dirname(onnxFile), name), target, constants.COPYFILE_FICLONE)
      }
      return await this.putDirectory(staging)
    } finally {
      await rm(staging, { recursive: true, force: true })
    }
  }

  /**
   * Takes over a folder made by makeTemporaryDirectory that holds model.onnx and its external data.
   * The folder is gone afterwards. Storing the same content twice gives the same artifact.
   */
  async putDirectory(directory: string): Promise<StoredArtifact> {
    const { digest, bytes } = await digestDirectory(directory, { sync: true })
    const target = this.#directoryOf(digest)
    // What is there is looked at only when it is in the way: whoever stored the same a moment ago keeps theirs.
    for (let attempt = 1; ; attempt++) {
      try {
        await rename(directory, target)
        break
      } catch (error) {
        if (await this.verify(digest)) break
        if (attempt === MOST_ATTEMPTS) throw error
        await this.remove(digest)
      }
    }
    await syncPath(this.#root)
    await rm(directory, { recursive: true, force: true })
    return { digest, file: join(target, MODEL_FILE), bytes }
  }

  /** Reads the whole artifact: true when it is there and its content has this digest. */
  async verify(digest: string): Promise<boolean> {
    try {
      return (await digestDirectory(this.#directoryOf(digest))).digest === digest
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
  }

  writeReport(digest: string, report: DecisionReport): void {
    const staged = join(this.#temporary, `${process.pid}-${Date.now()}-${this.#serial++}.json`)
    writeFileSync(staged, `${JSON.stringify(report, undefined, 2)}\n`, { flush: true })
    renameSync(staged, join(this.#directoryOf(digest), REPORT_FILE))
  }

  /** The story of the build that made this artifact; undefined for a model the user brought. */
  readReport(digest: string): DecisionReport | undefined {
    const file = join(this.#directoryOf(digest), REPORT_FILE)
    return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as DecisionReport) : undefined
  }

  async remove(digest: string): Promise<void> {
    const doomed = join(await this.makeTemporaryDirectory(), digest)
    try {
      await rename(this.#directoryOf(digest), doomed)
    } catch (error) {
      if (!isMissing(error)) throw error
    } finally {
      await rm(dirname(doomed), { recursive: true, force: true })
    }
  }

  /** Removes artifacts that nothing refers to, unless they are so young that whoever made them may be about to. */
  async sweep(isReferenced: (digest: string) => boolean): Promise<void> {
    for (const digest of await this.#digests()) {
      if (isReferenced(digest)) continue
      const { mtimeMs } = await stat(this.#directoryOf(digest))
      if (Date.now() - mtimeMs > SWEEP_AGE_MS) await this.remove(digest)
    }
  }

  async #digests(): Promise<string[]> {
    return (await readdir(this.#root)).filter((name) => /^[0-9a-f]{64}$/.test(name))
  }

  #directoryOf(digest: string): string {
    return join(this.#root, digest)
  }
}

/**
 * Names of the external data files a model refers to. Only a file whose bytes hold the key under which ONNX
 * stores such a name is decoded at all, so that models with their weights inside are not.
 */
async function externalDataOf(onnxFile: string): Promise<string[]> {
  const key = Buffer.from('\n\blocation')
  let tail = Buffer.alloc(0)
  for await (const chunk of chunksOf(onnxFile)) {
    const window = Buffer.concat([tail, chunk])
    if (window.includes(key)) return namesIn(onnxFile)
    tail = Buffer.from(window.subarray(-key.length))
  }
  return []
}

async function namesIn(onnxFile: string): Promise<string[]> {
  const names = externalFiles(decodeModel(await readFile(onnxFile))).map(normalize)
  const reserved = names.find((name) => name === MODEL_FILE || name === REPORT_FILE)
  if (reserved !== undefined) throw new FlyweightError('invalid_model', `external data may not be called ${reserved}`)
  return names
}

/** Digest of one file is that of its bytes, as sha256sum prints it; further files follow by name, each after its name. */
async function digestDirectory(directory: string, options: { sync?: boolean } = {}): Promise<{ digest: string; bytes: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  for (const name of await contentsOf(directory)) {
    if (name !== MODEL_FILE) hash.update(`\0${name}\0`)
    for await (const chunk of chunksOf(join(directory, name))) hash.update(chunk)
    bytes += (await stat(join(directory, name))).size
    if (options.sync) await syncPath(join(directory, name))
  }
  if (options.sync) await syncPath(directory)
  return { digest: hash.digest('hex'), bytes }
}

/** Names of an artifact's files, the model's first, then its external data in order; the report is none of them. */
async function contentsOf(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const names = entries.filter((entry) => entry.isFile()).map((entry) => relative(directory, join(entry.parentPath, entry.name)))
  return [MODEL_FILE, ...names.filter((name) => name !== MODEL_FILE && name !== REPORT_FILE).sort()]
}

async function* chunksOf(file: string): AsyncGenerator<Buffer> {
  const handle = await open(file)
  try {
    yield* handle.createReadStream({ highWaterMark: CHUNK_BYTES, autoClose: false }) as AsyncIterable<Buffer>
  } finally {
    await handle.close()
  }
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
