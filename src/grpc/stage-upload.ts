// How a stage travels: RepositoryModelLoad with Triton's `file:1/<name>` parameters, under a name made of its digest.
// A file larger than a message comes in several calls, each with its offset; all but the last say that more follows.
// Here is the receiving side: parts are written to a folder of the artifact store until the stage is whole.
import { existsSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { FlyweightError } from '../errors.js'
import { externalFilesOf, resolveExternalFile } from '../onnx/external-data.js'
import type { ArtifactStore, StoredArtifact } from '../registry/artifact-store.js'
import { pointerToken } from '../wire/describe.js'
import { inputError } from '../wire/signature.js'
import type { Parameters } from './messages.js'

/** Before a file's path in the name of its parameter; 1 is the version, as in a model's folder. */
export const FILE_PREFIX = 'file:1/'
/** int64: where in its file the one that is sent begins. Absent: it is the whole file. */
export const OFFSET = 'flyweight_offset'
/** bool: the stage is not whole yet. */
export const MORE = 'flyweight_more'

const STAGE_NAME = /^stage-([0-9a-f]{64})$/

/** @param digest of the model and its data, as the artifact store computes it */
export function stageName(digest: string): string {
  return `stage-${digest}`
}

/** The digest in a stage's name; undefined for other names. */
export function digestIn(name: string): string | undefined {
  return STAGE_NAME.exec(name)?.[1]
}

interface Upload {
  folder: string
  bytes: number
}

export class StageUploads {
  readonly #store: ArtifactStore
  readonly #maxBytes: number
  readonly #open = new Map<string, Upload>()

  /** @param maxBytes of one stage */
  constructor(store: ArtifactStore, maxBytes: number) {
    this.#store = store
    this.#maxBytes = maxBytes
  }

  /**
   * Takes one call's files. Calls of one upload must follow each other.
   * @param id of the upload: who sends, and what
   * @returns the stage once it is whole
   * @throws FlyweightError `malformed` and `invalid_input` for parts that do not follow, `too_large`, `invalid_model` for another digest
   */
  async take(id: string, digest: string, parameters: Parameters): Promise<StoredArtifact | undefined> {
    const files = filesIn(parameters)
    const offset = Number(parameters[OFFSET]?.int64_param ?? 0)
    if (offset > 0 && files.length > 1) throw inputError(`/parameters/${OFFSET}`, `came with ${files.length} files, expected one`)
    if (files.length === 0 && !this.#open.has(id)) throw inputError('/parameters', `have no files, expected ${FILE_PREFIX}model.onnx`)
    const upload = this.#open.get(id) ?? { folder: await this.#store.makeTemporaryDirectory(), bytes: 0 }
    this.#open.set(id, upload)
    try {
      for (const { name, bytes } of files) await this.#write(upload, name, bytes, offset)
      if (parameters[MORE]?.bool_param === true) return undefined
      await checkWhole(upload.folder)
      const stored = await this.#store.putDirectory(upload.folder)
      if (stored.digest !== digest) {
        await this.#store.remove(stored.digest)
        throw new FlyweightError('invalid_model', `the stage came with the digest ${stored.digest}, expected that of its name`)
      }
      this.#open.delete(id)
      return stored
    } catch (error) {
      await this.drop(id)
      throw error
    }
  }

  /** Gives up an upload, if there is one. */
  async drop(id: string): Promise<void> {
    const upload = this.#open.get(id)
    this.#open.delete(id)
    if (upload !== undefined) await rm(upload.folder, { recursive: true, force: true })
  }

  /** Uploads that have begun and are not whole. */
  ids(): string[] {
    return [...this.#open.keys()]
  }

  async #write(upload: Upload, name: string, bytes: Uint8Array, offset: number): Promise<void> {
    upload.bytes += bytes.byteLength
    if (upload.bytes > this.#maxBytes) throw new FlyweightError('too_large', `the stage is larger than ${this.#maxBytes} bytes (server.maxModelBytes)`)
    const file = await open(join(upload.folder, name), offset === 0 ? 'w' : 'a')
    try {
      const { size } = await file.stat()
      if (size !== offset) throw inputError(`/parameters/${OFFSET}`, `is ${offset}, expected ${size}, where ${name} ends`)
      await file.writeFile(bytes)
    } finally {
      await file.close()
    }
  }
}

/** @throws FlyweightError `invalid_model` for a stage without its model, or one that names data which was not sent with it */
async function checkWhole(folder: string): Promise<void> {
  const file = join(folder, 'model.onnx')
  if (!existsSync(file)) throw new FlyweightError('invalid_model', 'the stage came without model.onnx')
  for (const location of await externalFilesOf(file)) await resolveExternalFile(folder, location)
}

/** Plain names only: nothing is written but into the upload's folder. */
function filesIn(parameters: Parameters): { name: string; bytes: Uint8Array }[] {
  return Object.entries(parameters).flatMap(([key, { bytes_param: bytes }]) => {
    if (key === OFFSET || key === MORE) return []
    const name = key.startsWith(FILE_PREFIX) ? key.slice(FILE_PREFIX.length) : ''
    if (/^[\w-][\w.-]*$/.test(name) && bytes !== undefined) return [{ name, bytes }]
    throw inputError(`/parameters/${pointerToken(key)}`, `is not a parameter here, expected ${FILE_PREFIX}<name> with bytes, ${OFFSET} or ${MORE}`)
  })
}
