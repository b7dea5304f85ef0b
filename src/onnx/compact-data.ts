// A model on its way to another machine: its bytes, and of the files beside it only what it refers to. A stage of a
// large model names the file of the whole, of which it needs a part.
import { createHash } from 'node:crypto'
import { open, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { externalFilesOf, rangeOf, resolveExternalFile } from './external-data.js'
import { allTensors } from './graph.js'
import { create, DataLocation, decodeModel, encodeModel, StringStringEntryProtoSchema } from './proto.js'

/** Name of the one file that holds the data of a compacted model. */
const DATA_FILE = 'weights.bin'
/** Pages, so that the runtime can map weights straight from the file. */
const ALIGNMENT = 4096
/** Read and hashed at once: other events get their turn in between. */
const HASHED_BYTES = 2 ** 20

/** Bytes in memory, or a part of a file. */
type Part = Uint8Array | { path: string; offset: number; length: number }

export interface CompactModel {
  /** SHA-256 (hex) over the model and its data, as the artifact store computes it. */
  digest: string
  /** Of model and data together. */
  bytes: number
  /** `model.onnx`, and `weights.bin` where there is external data. */
  files: readonly CompactFile[]
}

export interface CompactFile {
  name: string
  /** The content in pieces of at most `most` bytes, but for what is in memory; read anew each time. */
  pieces(most: number): AsyncGenerator<Uint8Array>
}

/**
 * Reads a model so that all its external data is in one file, `weights.bin`, without what it does not refer to.
 * A model without external data stays as it is, byte for byte, and is never in memory as a whole.
 * @throws FlyweightError `invalid_model` for data outside of the model's folder
 */
export async function compactModel(file: string): Promise<CompactModel> {
  const alone = (await externalFilesOf(file)).length === 0
  const contents: [string, Part[]][] = alone ? [['model.onnx', [{ path: file, offset: 0, length: (await stat(file)).size }]]] : await compacted(file)
  const files = contents.map(([name, parts]) => ({ name, pieces: (most: number) => readParts(parts, most) }))
  const hash = createHash('sha256')
  for (const [index, { name, pieces }] of files.entries()) {
    if (index > 0) hash.update(`\0${name}\0`)
    for await (const piece of pieces(HASHED_BYTES)) hash.update(piece)
  }
  const bytes = contents.flatMap(([, parts]) => parts).reduce((sum, part) => sum + (part instanceof Uint8Array ? part.byteLength : part.length), 0)
  return { digest: hash.digest('hex'), bytes, files }
}

async function compacted(file: string): Promise<[string, Part[]][]> {
  const model = decodeModel(await readFile(file))
  const parts: Part[] = []
  const offsets = new Map<string, number>()
  let end = 0
  for (const tensor of allTensors(model)) {
    if (tensor.dataLocation !== DataLocation.EXTERNAL) continue
    const { location, offset, length: given } = rangeOf(tensor)
    const path = await resolveExternalFile(dirname(file), location)
    const length = given ?? (await stat(path)).size - offset
    const key = `${offset} ${length} ${path}`
    let at = offsets.get(key)
    if (at === undefined) {
      const padding = (ALIGNMENT - (end % ALIGNMENT)) % ALIGNMENT
      if (padding > 0) parts.push(new Uint8Array(padding))
      offsets.set(key, (at = end + padding))
      parts.push({ path, offset, length })
      end = at + length
    }
    const reference = { location: DATA_FILE, offset: String(at), length: String(length) }
    tensor.externalData = Object.entries(reference).map(([name, value]) => create(StringStringEntryProtoSchema, { key: name, value }))
  }
  return [
    ['model.onnx', [encodeModel(model)]],
    [DATA_FILE, parts],
  ]
}

async function* readParts(parts: readonly Part[], most: number): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    if (part instanceof Uint8Array) {
      yield part
      continue
    }
    const { path, offset, length } = part
    if (length === 0) continue
    const handle = await open(path)
    try {
      yield* handle.createReadStream({ start: offset, end: offset + length - 1, highWaterMark: most, autoClose: false }) as AsyncIterable<Buffer>
    } finally {
      await handle.close()
    }
  }
}
