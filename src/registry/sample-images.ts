// Sample inputs from a folder of images, labelled by the names of its subfolders. Every image is decoded once, one at
// a time, to the size of the model's input; its pixels lie in a file without a name until they are taken, so that
// memory does not grow with them. How pixels become numbers is image-settings.ts's.
import { createHash, randomUUID, type Hash } from 'node:crypto'
import { openSync, readSync, rmSync, writeSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import { messageOf } from '../errors.js'
import { float16From } from '../tensor/float16.js'
import type { PixelSize } from '../tensor/pixels.js'
import type { TensorSpec } from '../tensor/tensor.js'
import { IMAGE_SETTINGS_FILE, readImageSettings, type ImageSettings } from './image-settings.js'
import { segmentFault, type SampleSegment, type SampleSignature } from './sample-segment.js'

/** Inputs of bytes take pixels as they are. */
const UNSCALED = { range: '0..255', mean: undefined, std: undefined } as const
const IMAGES = ['.png', '.jpg', '.jpeg', '.webp']

interface ImageFile {
  /** Path from the folder, for errors. */
  name: string
  file: string
  label: number | undefined
}

/** How a model takes an image. */
interface ImageInput {
  spec: TensorSpec
  size: PixelSize
  /** [C, H, W] rather than [H, W, C]. */
  planar: boolean
}

/**
 * One row an image, by name of subfolder and file; no rows where the folder has no images.
 * @throws FlyweightError `invalid_input` naming the file that is no image, or why the model takes none
 */
export async function imageSegments(folder: string, signature: SampleSignature, hash: Hash): Promise<SampleSegment[]> {
  const found = await imageFiles(folder)
  if (found.names.length + found.folders.length === 0) return []
  const input = imageInput(signature)
  const { settings, text } = await readImageSettings(join(folder, IMAGE_SETTINGS_FILE), input.size.channels)
  hash.update(JSON.stringify([text, input]))
  const { decodePixels, scaledPixels } = await import('../tensor/pixels.js')
  const spool = new Spool()
  const segments: SampleSegment[] = []
  for (const { name, file, label } of labelled(folder, found, settings)) {
    const bytes = await readFile(file)
    hash.update(`${name} ${label ?? ''} `).update(createHash('sha256').update(bytes).digest())
    const pixels = await decodePixels(bytes, input.size).catch((cause: unknown) => {
      throw segmentFault(name, `it is no image that can be decoded: ${messageOf(cause)}`, cause)
    })
    const { channels, height, width } = pixels
    const offset = spool.write(pixels.data)
    const length = pixels.data.length
    const dims = input.planar ? [1, channels, height, width] : [1, height, width, channels]
    segments.push({
      name,
      rows: 1,
      shape: dims.join('x'),
      labels: label === undefined ? undefined : [label],
      take: () => {
        const data = spool.read(offset, length)
        const { name: inputName, dtype } = input.spec
        const values = scaledPixels({ channels, height, width, data }, dtype === 'uint8' ? { ...settings, ...UNSCALED } : settings, input.planar)
        return { [inputName]: { dtype, dims, data: dtype === 'uint8' ? Uint8Array.from(values) : dtype === 'float16' ? float16From(values) : values } }
      },
    })
  }
  return segments
}

interface Found {
  /** Images of the folder itself. */
  names: string[]
  /** Its folders that hold images. */
  folders: { name: string; names: string[] }[]
}

async function imageFiles(folder: string): Promise<Found> {
  const isImage = (name: string) => IMAGES.includes(extname(name).toLowerCase())
  const entries = (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))
  const folders: Found['folders'] = []
  for (const { name } of entries.filter((entry) => entry.isDirectory())) {
    const names = (await readdir(join(folder, name))).filter(isImage).sort()
    if (names.length > 0) folders.push({ name, names })
  }
  return { names: entries.filter((entry) => !entry.isDirectory() && isImage(entry.name)).map(({ name }) => name), folders }
}

/** Folders are classes: of the number they are called, else in the order of `classes`, else of their names. */
function labelled(folder: string, { names, folders }: Found, { classes }: ImageSettings): ImageFile[] {
  const numbered = folders.every(({ name }) => /^\d{1,9}$/.test(name))
  const order = classes ?? folders.map(({ name }) => name)
  const labelOf = (name: string): number => {
    if (classes === undefined && numbered) return Number(name)
    const label = order.indexOf(name)
    if (label < 0) throw segmentFault(`${name}/`, `it is none of the classes that ${IMAGE_SETTINGS_FILE} names: ${order.join(', ')}`)
    return label
  }
  return [
    ...names.map((name) => ({ name, file: join(folder, name), label: undefined })),
    ...folders.flatMap(({ name: inner, names: files }) =>
      files.map((name) => ({ name: `${inner}/${name}`, file: join(folder, inner, name), label: labelOf(inner) })),
    ),
  ]
}

/** @throws FlyweightError `invalid_input` for a model that takes no single image a row */
function imageInput({ inputs, batchable }: SampleSignature): ImageInput {
  const [spec] = inputs
  const fault = (detail: string) =>
    segmentFault('images', `the model ${detail}, expected one input of float32, float16 or uint8 shaped [N, 1 or 3, H, W] or [N, H, W, 1 or 3]`)
  if (spec === undefined || inputs.length > 1) throw fault(`has the inputs ${inputs.map(({ name }) => `"${name}"`).join(', ') || 'none'}`)
  const { name, dtype, dims } = spec
  const described = `takes "${name}" as ${dtype} [${dims.join(', ')}]`
  if (dims.length !== 4 || (dtype !== 'float32' && dtype !== 'float16' && dtype !== 'uint8')) throw fault(described)
  if (!batchable && typeof dims[0] === 'number' && dims[0] > 1) throw fault(`${described}, always ${dims[0]} at a time`)
  const size = (dim: number | string | undefined) => (typeof dim === 'number' && dim > 0 ? dim : undefined)
  const [first, last] = [dims[1], dims[3]]
  if (first === 1 || first === 3) return { spec, size: { channels: first, height: size(dims[2]), width: size(last) }, planar: true }
  if (last === 1 || last === 3) return { spec, size: { channels: last, height: size(first), width: size(dims[2]) }, planar: false }
  throw fault(described)
}

/** A file that only this process has, gone when it ends. */
class Spool {
  readonly #handle: number
  #size = 0

  constructor() {
    const file = join(tmpdir(), `flyweight-images-${randomUUID()}`)
    this.#handle = openSync(file, 'wx+', 0o600)
    const remove = () => rmSync(file, { force: true })
    try {
      remove()
    } catch {
      // Windows removes no open file.
      process.once('exit', remove)
    }
  }

  /** Returns where the bytes are. */
  write(bytes: Uint8Array): number {
    const start = this.#size
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#handle, bytes, at, bytes.length - at, start + at)
    this.#size += bytes.length
    return start
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length)
    for (let at = 0; at < length; ) {
      const read = readSync(this.#handle, bytes, at, length - at, offset + at)
      if (read === 0) throw new RangeError(`the pixels end at byte ${offset + at}`)
      at += read
    }
    return bytes
  }
}
