// The content-addressed store of model files: `<root>/<digest>/model.onnx` with its external data beside it, or
// both in `packed/` where that pays, and report.json for what a build produced; a sharded model has stage-0.onnx and
// so on in place of model.onnx. Nothing half-written is ever
// visible: everything is made in `<root>/.tmp`, synced, and renamed into place. Knows nothing of names or versions.
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { constants, copyFile, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, normalize, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { FlyweightError } from '../errors.js'
import type { DecisionReport } from '../measurements.js'
import { externalFilesOf, resolveExternalFile } from '../onnx/external-data.js'
import { PACKED_FOLDER, PACKED_SUFFIX } from '../onnx/packed.js'

const MODEL_FILE = 'model.onnx'
/** In place of model.onnx where the artifact is a row of stages. */
const FIRST_STAGE_FILE = 'stage-0.onnx'
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
  /** Model file and external data together, as kept. */
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

  /** Where the artifact's model, or its first stage, is when it is kept plain, whether or not it is there; withPlainFile gives one that is. */
  fileOf(digest: string): string {
    const stage = join(this.#directoryOf(digest), FIRST_STAGE_FILE)
    const file = join(this.#directoryOf(digest), MODEL_FILE)
    return !existsSync(file) && existsSync(stage) ? stage : file
  }

  has(digest: string): boolean {
    return existsSync(this.fileOf(digest)) || existsSync(join(this.#directoryOf(digest), PACKED_FOLDER, `${MODEL_FILE}${PACKED_SUFFIX}`))
  }

  /** The artifact as putFile returned it, without reading its content; undefined when it is not there. */
  async find(digest: string): Promise<StoredArtifact | undefined> {
    if (!this.has(digest)) return undefined
    return { digest, file: this.fileOf(digest), bytes: await bytesOf(await this.files(digest)) }
  }

  /** The artifact's files as they are kept, the model first. */
  files(digest: string): Promise<ArtifactFile[]> {
    return filesIn(this.#directoryOf(digest))
  }

  /**
   * Calls `work` with the model as a plain file. One that is kept packed is unpacked and checked first, external data
   * too, and the plain files are gone afterwards: what `work` opened must not need them by then.
   * @throws FlyweightError `invalid_model` when the artifact is damaged
   */
  async withPlainFile<Result>(digest: string, work: (file: string) => Promise<Result>): Promise<Result> {
    if (existsSync(this.fileOf(digest))) return work(this.fileOf(digest))
    const directory = await this.makeTemporaryDirectory()
    try {
      for (const file of await this.files(digest)) {
        const target = join(directory, file.name)
        await mkdir(dirname(target), { recursive: true })
        await pipeline(chunksOf(file), createWriteStream(target))
      }
      const found = await digestOf(await plainFilesIn(directory))
      if (found !== digest) throw new FlyweightError('invalid_model', `artifact ${digest} is damaged: unpacked it has the digest ${found}`)
      return await work(join(directory, MODEL_FILE))
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
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
   * Takes over a folder made by makeTemporaryDirectory that holds model.onnx, or stages, and their external data. Where it holds them
   * packed as well (onnx/packed.ts), only that form is kept.
   * The folder is gone afterwards. Storing the same content twice gives the same artifact.
   */
  async putDirectory(directory: string): Promise<StoredArtifact> {
    const plain = await plainFilesIn(directory)
    const digest = await digestOf(plain)
    const packed = await packedFilesIn(directory)
    if (packed !== undefined) for (const { path } of plain) await rm(path)
    for (const { path } of packed ?? plain) await syncPath(path)
    await syncPath(directory)
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
    return { digest, file: this.fileOf(digest), bytes: await bytesOf(await this.files(digest)) }
  }

  /** Reads the whole artifact: true when it is there and its content has this digest. */
  async verify(digest: string): Promise<boolean> {
    try {
      return (await digestOf(await this.files(digest))) === digest
    } catch (error) {
      if (isMissing(error) || isDamage(error)) return false
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

async function externalDataOf(onnxFile: string): Promise<string[]> {
  const names = (await externalFilesOf(onnxFile)).map(normalize)
  const reserved = names.find((name) => name === MODEL_FILE || name === REPORT_FILE || isPacked(name))
  if (reserved !== undefined) throw new FlyweightError('invalid_model', `external data may not be called ${reserved}`)
  return names
}

/** A file of an artifact: `name` is that of the plain file, `path` where its bytes are, packed or not. */
export interface ArtifactFile {
  name: string
  path: string
  packed: boolean
}

/** Digest of one file is that of its bytes, as sha256sum prints it; further files follow by name, each after its name. */
async function digestOf(files: readonly ArtifactFile[]): Promise<string> {
  const hash = createHash('sha256')
  for (const file of files) {
    if (file.name !== MODEL_FILE) hash.update(`\0${file.name}\0`)
    for await (const chunk of chunksOf(file)) hash.update(chunk)
  }
  return hash.digest('hex')
}

async function bytesOf(files: readonly ArtifactFile[]): Promise<number> {
  const sizes = await Promise.all(files.map(async ({ path }) => (await stat(path)).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** An artifact's files as they are kept, the model first, then its external data in order; the report is none of them. */
async function filesIn(directory: string): Promise<ArtifactFile[]> {
  const plain = await plainFilesIn(directory)
  return plain.some(({ name, path }) => (name === MODEL_FILE || name === FIRST_STAGE_FILE) && existsSync(path))
    ? plain
    : ((await packedFilesIn(directory)) ?? plain)
}

async function plainFilesIn(directory: string): Promise<ArtifactFile[]> {
  const found = (await namesIn(directory)).filter((name) => name !== REPORT_FILE && !isPacked(name))
  const names = found.filter((name) => name !== MODEL_FILE)
  const staged = names.length === found.length && names.includes(FIRST_STAGE_FILE)
  return (staged ? names : [MODEL_FILE, ...names]).map((name) => ({ name, path: join(directory, name), packed: false }))
}

async function packedFilesIn(directory: string): Promise<ArtifactFile[] | undefined> {
  const folder = join(directory, PACKED_FOLDER)
  if (!existsSync(folder)) return undefined
  const names = (await namesIn(folder)).map((name) => name.slice(0, -PACKED_SUFFIX.length)).filter((name) => name !== MODEL_FILE)
  return [MODEL_FILE, ...names].map((name) => ({ name, path: join(folder, `${name}${PACKED_SUFFIX}`), packed: true }))
}

async function namesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort()
}

function isPacked(name: string): boolean {
  return name === PACKED_FOLDER || name.startsWith(join(PACKED_FOLDER, '/'))
}

/** The plain bytes of a file, packed or not. @throws what zlib throws for one that is damaged */
async function* chunksOf({ path, packed }: ArtifactFile): AsyncGenerator<Buffer> {
  const bytes = createReadStream(path, { highWaterMark: CHUNK_BYTES })
  const plain = packed ? bytes.pipe(createGunzip({ chunkSize: CHUNK_BYTES })) : bytes
  bytes.on('error', (error) => plain.destroy(error))
  try {
    yield* plain as AsyncIterable<Buffer>
  } finally {
    bytes.destroy()
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

/** A packed file that is no gzip, or ends early. */
function isDamage(error: unknown): boolean {
  return /^Z_(DATA|BUF)_ERROR$/.test((error as NodeJS.ErrnoException).code ?? '')
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
