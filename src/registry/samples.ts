// Sample inputs of a model, from a file or a folder: .npz, .npy, JSON Lines, images. Checked against the model's signature
// at once, read in parts when taken, so that memory does not grow with them. Used for calibration and fidelity; knows nothing of either.
import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { joinRows } from '../tensor/rows.js'
import type { Tensor } from '../tensor/tensor.js'
import { LABELS, npyLabels, npySegment, npzSegment } from './sample-arrays.js'
import { imageSegments } from './sample-images.js'
import { lineSegments } from './sample-lines.js'
import { segmentFault, type SampleSegment, type SampleSignature } from './sample-segment.js'

export interface Samples {
  /** Rows of the batch dimension over all files; for a model that does not batch, one a file or line. */
  readonly rows: number
  /** SHA-256 (hex) over the files, in order. */
  readonly digest: string
  /** One class index a row, where every file has labels. */
  readonly labels: Int32Array<ArrayBuffer> | undefined
  /**
   * Inputs of rows `from` … `from + count − 1`, freshly allocated.
   * @throws RangeError outside of `rows`
   * @throws FlyweightError `invalid_input` when the rows differ in shape, or a file is damaged
   */
  take(from: number, count: number): Record<string, Tensor>
  /** How many rows from `from` on, at most `most`, have the same shape and so fit into one batch. */
  alike(from: number, most: number): number
}

const LINES = ['.jsonl', '.ndjson']

/** What samples may be, in words, for errors. */
export const SAMPLE_FORMATS = '.npz or .jsonl files, .npy files named after the inputs, folders of .npy files named after them, or folders of images'

/**
 * Opens the samples at `path`. A folder may hold, in this order of rows:
 * - .npz files, arrays named as the inputs or `in/<name>` and optionally `labels`, and .jsonl files, by name;
 * - `<input>.npy`, one an input, and `labels.npy`;
 * - folders named after the inputs, with .npy files of the same names in each: those of one name belong together;
 *   their labels are in `labels.npy` beside the folders;
 * - none of these, but images, or folders of images whose names are their labels (sample-images.ts).
 *
 * Undefined when there is nothing at `path`, or nothing of that kind.
 * @param options.sortByShape puts rows of one shape together, for unlabelled samples whose order means nothing
 * @throws FlyweightError `invalid_input` naming file, line or array, what came and what the model expects
 */
export async function loadSamples(path: string, signature: SampleSignature, { sortByShape = false } = {}): Promise<Samples | undefined> {
  const kind = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (kind === undefined) return undefined
  const hash = createHash('sha256')
  const found = kind.isDirectory() ? await folderSegments(path, signature, hash) : await fileSegments(path, signature, hash)
  if (found.length === 0) return undefined
  const labels = labelsOf(basename(path), found)
  return samplesOf(sortByShape ? found.toSorted((a, b) => (a.shape < b.shape ? -1 : Number(a.shape > b.shape))) : found, {
    digest: hash.digest('hex'),
    labels: sortByShape ? undefined : labels,
    batchable: signature.batchable,
  })
}

async function fileSegments(file: string, signature: SampleSignature, hash: Hash): Promise<SampleSegment[]> {
  const type = extname(file).toLowerCase()
  if (LINES.includes(type)) return lineSegments(file, signature, hash)
  const [input, ...more] = signature.inputs
  if (type === '.npy' && input !== undefined && more.length === 0) {
    await hashFile(file, hash)
    return [npySegment(basename(file), new Map([[input.name, file]]), signature)]
  }
  if (type !== '.npz') throw segmentFault(basename(file), `expected ${SAMPLE_FORMATS}`)
  await hashFile(file, hash)
  return [npzSegment(file, signature)]
}

async function folderSegments(folder: string, signature: SampleSignature, hash: Hash): Promise<SampleSegment[]> {
  const names = (await readdir(folder)).sort()
  const segments: SampleSegment[] = []
  for (const name of names) {
    const type = extname(name).toLowerCase()
    if (type === '.npz' || LINES.includes(type)) segments.push(...(await fileSegments(join(folder, name), signature, hash)))
  }
  const isInput = (name: string) => signature.inputs.some((input) => input.name === name)
  const arrays = new Map(names.filter((name) => name.endsWith('.npy')).map((name) => [name.slice(0, -'.npy'.length), join(folder, name)]))
  for (const file of arrays.values()) await hashFile(file, hash)
  if ([...arrays.keys()].some(isInput)) return [...segments, npySegment('.npy files', arrays, signature)]
  const folders = names.filter(isInput)
  if (folders.length === 0) return segments.length > 0 ? segments : imageSegments(folder, signature, hash)
  const numbered = await inputFolders(folder, folders, signature, hash)
  const labelFile = arrays.get(LABELS)
  if (labelFile === undefined) return [...segments, ...numbered]
  const labels = npyLabels(
    `${LABELS}.npy`,
    labelFile,
    numbered.reduce((sum, { rows }) => sum + rows, 0),
  )
  let start = 0
  const labelled = numbered.map((segment) => ({ ...segment, labels: labels.slice(start, (start += segment.rows)) }))
  return [...segments, ...labelled]
}

async function inputFolders(folder: string, folders: readonly string[], signature: SampleSignature, hash: Hash): Promise<SampleSegment[]> {
  const missing = signature.inputs.find(({ name }) => !folders.includes(name))
  if (missing !== undefined) throw segmentFault(basename(folder), `it has a folder ${folders[0]}/, but none for input "${missing.name}"`)
  const lists = new Map<string, readonly string[]>()
  for (const name of folders) lists.set(name, (await readdir(join(folder, name))).filter((file) => file.endsWith('.npy')).sort())
  const [[first, files]] = [...lists] as [[string, readonly string[]]]
  for (const [other, others] of lists) {
    const odd = files.find((file) => !others.includes(file)) ?? others.find((file) => !files.includes(file))
    if (odd !== undefined)
      throw segmentFault(`${basename(folder)}/${odd}`, `it is in one of the folders ${first}/ and ${other}/ only, expected the same names in both`)
  }
  const segments: SampleSegment[] = []
  for (const file of files) {
    const paths = new Map(folders.map((name) => [name, join(folder, name, file)]))
    for (const path of paths.values()) await hashFile(path, hash)
    segments.push(npySegment(`${folders.length === 1 ? `${folders[0]}/` : ''}${file}`, paths, signature))
  }
  return segments
}

async function hashFile(file: string, hash: Hash): Promise<void> {
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) hash.update(chunk)
}

function labelsOf(name: string, segments: readonly SampleSegment[]): Int32Array<ArrayBuffer> | undefined {
  if (segments.every(({ labels }) => labels === undefined)) return undefined
  const without = segments.find(({ labels }) => labels === undefined)
  if (without !== undefined) throw segmentFault(name, `some files have "labels" and others do not, as ${without.name}`)
  return Int32Array.from(segments.flatMap(({ labels }) => labels ?? []))
}

function samplesOf(
  segments: readonly SampleSegment[],
  { digest, labels, batchable }: { digest: string; labels: Int32Array<ArrayBuffer> | undefined; batchable: boolean },
): Samples {
  const starts: number[] = []
  let rows = 0
  for (const segment of segments) {
    starts.push(rows)
    rows += segment.rows
  }
  /** The segment that holds a row. */
  const at = (row: number): number => {
    let [low, high] = [0, starts.length - 1]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((starts[middle] as number) <= row) low = middle
      else high = middle - 1
    }
    return low
  }
  return {
    rows,
    digest,
    labels,
    take: (from, count) => {
      if (from < 0 || count < 1 || from + count > rows) throw new RangeError(`rows ${from} to ${from + count} of ${rows}`)
      if (!batchable && count !== 1) throw new RangeError('a model that does not batch takes its samples one by one')
      const parts: Record<string, Tensor>[] = []
      for (let index = at(from), row = from; row < from + count; index++) {
        const [segment, start] = [segments[index] as SampleSegment, starts[index] as number]
        const last = Math.min(from + count - start, segment.rows)
        parts.push(segment.take(row - start, last))
        row = start + last
      }
      return joinRows(parts)
    },
    alike: (from, most) => {
      if (!batchable) return 1
      let index = at(from)
      const { shape } = segments[index] as SampleSegment
      while (index < segments.length && segments[index]?.shape === shape && (starts[index] as number) < from + most) index += 1
      return Math.min(most, (starts[index] ?? rows) - from)
    },
  }
}
