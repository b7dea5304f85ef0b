// Weights kept in files beside the .onnx file. The paths come from the model file, which may be hostile:
// only plain files inside the model's own folder are read (no absolute path, no `..`, no link that leads out).
import { constants } from 'node:fs'
import { open, readFile, realpath, type FileHandle } from 'node:fs/promises'
import { isAbsolute, join, relative, sep, win32 } from 'node:path'
import { FlyweightError, messageOf } from '../errors.js'
import { dtypeOf } from './builder.js'
import { allTensors } from './graph.js'
import { DataLocation, decodeModel, type ModelProto, type TensorProto } from './proto.js'
import { dtypes } from '../tensor/tensor.js'

// One read call of Node takes at most 2 GiB − 1.
const MAX_READ = 1 << 30
const CHUNK_BYTES = 1 << 20

export interface Range {
  location: string
  offset: number
  /** Undefined: up to the end of the file. */
  length: number | undefined
}

/**
 * Locations of the external data files a model names, relative to its folder, sorted, each once.
 * @throws FlyweightError `invalid_model` for a location that is not a relative path inside the folder.
 */
export function externalFiles(model: ModelProto): string[] {
  const locations = new Set<string>()
  for (const tensor of allTensors(model)) {
    if (tensor.dataLocation === DataLocation.EXTERNAL) locations.add(rangeOf(tensor).location)
  }
  return [...locations].sort()
}

/**
 * The same of a model file. Only a file whose bytes hold the key under which ONNX stores such a name is decoded at
 * all, so that models with their weights inside are not even held in memory.
 */
export async function externalFilesOf(file: string): Promise<string[]> {
  const key = Buffer.from('\n\blocation')
  const handle = await open(file)
  try {
    let tail = Buffer.alloc(0)
    for await (const chunk of handle.createReadStream({ highWaterMark: CHUNK_BYTES, autoClose: false }) as AsyncIterable<Buffer>) {
      const window = Buffer.concat([tail, chunk])
      if (window.includes(key)) return externalFiles(decodeModel(await readFile(file)))
      tail = Buffer.from(window.subarray(-key.length))
    }
    return []
  } finally {
    await handle.close()
  }
}

/**
 * Path of an external data file with all links resolved, proven to lie inside `folder`.
 * @throws FlyweightError `invalid_model` when it is missing or lies elsewhere.
 */
export async function resolveExternalFile(folder: string, location: string): Promise<string> {
  checkLocation(location)
  let root: string
  let target: string
  try {
    root = await realpath(folder)
    target = await realpath(join(root, location))
  } catch (cause) {
    throw new FlyweightError('invalid_model', `external data file "${location}" cannot be read: ${messageOf(cause)}`, { cause })
  }
  const path = relative(root, target)
  if (path.startsWith('..') || isAbsolute(path)) {
    throw new FlyweightError('invalid_model', `external data file "${location}" is a link that leads out of the model's folder`)
  }
  return target
}

/**
 * Reads every external tensor of `model` into its `rawData`, in place; afterwards the model stands alone. Of
 * tensors that hold the same as `known` has by their name, its bytes are taken.
 * @throws FlyweightError `invalid_model` naming the tensor when a path, a range or a size does not fit.
 */
export async function loadExternalData(model: ModelProto, folder: string, known?: ReadonlyMap<string, Uint8Array>): Promise<void> {
  const files = new Map<string, FileHandle>()
  try {
    for (const tensor of allTensors(model)) {
      if (tensor.dataLocation !== DataLocation.EXTERNAL) continue
      const range = rangeOf(tensor)
      let file = files.get(range.location)
      if (!file) files.set(range.location, (file = await openConfined(folder, range.location)))
      tensor.rawData = await readTensor(file, tensor, { ...range, known: known?.get(tensor.name) })
      tensor.externalData = []
      tensor.dataLocation = DataLocation.DEFAULT
    }
  } finally {
    for (const file of files.values()) await file.close()
  }
}

/** Bytes the elements of a tensor occupy in a file, or undefined for a type Flyweight does not carry (int4, float8…). */
function expectedBytes(tensor: TensorProto): number | undefined {
  const dtype = dtypeOf(tensor.dataType)
  if (dtype === undefined || dtype === 'string') return undefined
  return Number(tensor.dims.reduce((product, dim) => product * dim, 1n) * BigInt(dtypes[dtype].bytes))
}

/** Bytes of a tensor's values where they are not raw data of the model file: as its reference says, or as its dims need. */
export function externalBytes(tensor: TensorProto): number {
  const length = tensor.dataLocation === DataLocation.EXTERNAL ? rangeOf(tensor).length : undefined
  return length ?? expectedBytes(tensor) ?? 0
}

async function openConfined(folder: string, location: string): Promise<FileHandle> {
  const path = await resolveExternalFile(folder, location)
  // NOFOLLOW: the path is resolved, so a link here was swapped in since. NONBLOCK: a FIFO must not hang us.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  if ((await file.stat()).isFile()) return file
  await file.close()
  throw new FlyweightError('invalid_model', `external data file "${location}" is not a plain file`)
}

async function readTensor(
  file: FileHandle,
  tensor: TensorProto,
  { known, ...range }: Range & { known?: Uint8Array | undefined },
): Promise<Uint8Array<ArrayBuffer>> {
  const { size } = await file.stat()
  const length = range.length ?? size - range.offset
  const where = `tensor "${tensor.name}": bytes ${range.offset} to ${range.offset + length} of external data file "${range.location}"`
  if (length < 0 || range.offset + length > size) throw new FlyweightError('invalid_model', `${where} lie outside of its ${size} bytes`)
  const expected = expectedBytes(tensor)
  if (expected !== undefined && expected !== length) {
    throw new FlyweightError('invalid_model', `${where} do not fit dims [${tensor.dims.join(', ')}], which need ${expected} bytes`)
  }
  if (known?.length === length && (await holds(file, range.offset, known))) return known as Uint8Array<ArrayBuffer>
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, Math.min(length - done, MAX_READ), range.offset + done)
    if (bytesRead === 0) throw new FlyweightError('invalid_model', `${where}: the file ended early`)
    done += bytesRead
  }
  return bytes
}

async function holds(file: FileHandle, offset: number, expected: Uint8Array): Promise<boolean> {
  const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, expected.length))
  for (let done = 0; done < expected.length; ) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, expected.length - done), offset + done)
    if (bytesRead === 0 || chunk.compare(expected, done, done + bytesRead, 0, bytesRead) !== 0) return false
    done += bytesRead
  }
  return true
}

/** Where a tensor's data lies, as its references say. @throws FlyweightError `invalid_model` for one that is not inside the model's folder */
export function rangeOf(tensor: TensorProto): Range {
  const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]))
  const location = entries.get('location')
  if (location === undefined) throw new FlyweightError('invalid_model', `tensor "${tensor.name}" has external data without a location`)
  checkLocation(location)
  return { location, offset: byteCount(tensor, 'offset', entries) ?? 0, length: byteCount(tensor, 'length', entries) }
}

function byteCount(tensor: TensorProto, key: string, entries: ReadonlyMap<string, string>): number | undefined {
  const text = entries.get(key)
  if (text === undefined) return undefined
  const value = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value
  throw new FlyweightError('invalid_model', `tensor "${tensor.name}": external data ${key} is "${text}", expected a number of bytes`)
}

function checkLocation(location: string): void {
  const parts = location.split(/[\\/]/)
  if (location === '' || location.includes('\0') || isAbsolute(location) || win32.isAbsolute(location) || parts.includes('..')) {
    throw new FlyweightError('invalid_model', `external data location "${location}" is not a path inside the model's folder`)
  }
  if (sep === '/' && location.includes('\\')) {
    throw new FlyweightError('invalid_model', `external data location "${location}" has a backslash; expected "/" between folders`)
  }
}
