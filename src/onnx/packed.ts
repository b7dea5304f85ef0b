// Model files packed for storage and for the wire: gzip, one `packed/<name>.gz` a file, beside the model. Only
// where it pays: weights that are mostly zeros. Who keeps which form is the artifact store's business.
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open, rm, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip, gzipSync } from 'node:zlib'
import { externalFilesOf } from './external-data.js'

export const PACKED_FOLDER = 'packed'
export const PACKED_SUFFIX = '.gz'
/** Packed files must have at most this share of the plain ones: unpacking costs time at every load. Dense weights reach 0.92. */
const WORTHWHILE = 0.75
/** Beyond this estimate the real thing is not tried. */
const HOPELESS = 0.85
const [SAMPLES, SAMPLE_BYTES] = [16, 1 << 16]

/** Bytes of a model file and its external data together. */
export async function plainBytes(file: string): Promise<number> {
  return totalBytes(await filesOf(file))
}

/**
 * Packs a model and its external data into `packed/` in its folder, or leaves none there where that would not pay.
 * Returns the bytes that storing the model takes: of the packed files, or of the plain ones.
 */
export async function packModel(file: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<number> {
  const folder = dirname(file)
  const target = join(folder, PACKED_FOLDER)
  await rm(target, { recursive: true, force: true })
  const files = await filesOf(file)
  const plain = await totalBytes(files)
  if ((await estimatedShare(files)) > HOPELESS) return plain
  const packed: string[] = []
  for (const path of files) {
    const name = relative(folder, path)
    const to = join(target, `${name}${PACKED_SUFFIX}`)
    await mkdir(dirname(to), { recursive: true })
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), createGzip(), createWriteStream(to), ...(signal === undefined ? [] : [{ signal }]))
    packed.push(to)
  }
  const bytes = await totalBytes(packed)
  if (bytes <= plain * WORTHWHILE) return bytes
  await rm(target, { recursive: true })
  return plain
}

async function filesOf(file: string): Promise<string[]> {
  return [file, ...(await externalFilesOf(file)).map((name) => join(dirname(file), name))]
}

async function totalBytes(files: readonly string[]): Promise<number> {
  const sizes = await Promise.all(files.map(async (path) => (await stat(path)).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** Which share of the bytes packing leaves, judged by samples spread over the largest file. */
async function estimatedShare(files: readonly string[]): Promise<number> {
  const sizes = await Promise.all(files.map(async (path) => ({ path, size: (await stat(path)).size })))
  const { path, size } = sizes.reduce((largest, one) => (one.size > largest.size ? one : largest))
  const handle = await open(path)
  try {
    let [plain, packed] = [0, 0]
    for (let sample = 0; sample < SAMPLES; sample++) {
      const at = Math.floor((Math.max(0, size - SAMPLE_BYTES) * sample) / (SAMPLES - 1))
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(SAMPLE_BYTES), 0, SAMPLE_BYTES, at)
      plain += bytesRead
      packed += gzipSync(buffer.subarray(0, bytesRead), { level: 1 }).length
    }
    return plain === 0 ? 1 : packed / plain
  } finally {
    await handle.close()
  }
}
