// Turns `--input name=…` into tensors: JSON on the command line, or a .json, .npy, .npz or image file.
// Shapes are not checked here: the gateway does that, and says what it expected.
import { readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { FlyweightError } from '../errors.js'
import { readNpy } from '../tensor/npy.js'
import { readNpz } from '../tensor/npz.js'
import { dtypes, type DType, type Tensor } from '../tensor/tensor.js'
import type { PixelRange } from '../tensor/pixel-range.js'

/** An input as `POST /infer` takes it: a nested array, or shape and data. */
export type InputValue = unknown

/** What a model declares about one input, in the words of the v2 protocol. */
export interface InputMetadata {
  name: string
  datatype: string
  shape: readonly number[]
}

export interface InputOptions {
  /** First row and number of rows to take from .npy and .npz files; all when absent. */
  rows?: { from: number; count: number }
  pixels: PixelRange
  metadata: readonly InputMetadata[]
}

/**
 * Parses one `name=value`, where value is JSON or `@file`.
 * @throws FlyweightError `invalid_input` for text that is neither, a file type it does not know, or an absent array.
 */
export async function parseInput(text: string, options: InputOptions): Promise<[name: string, value: InputValue]> {
  const equals = text.indexOf('=')
  if (equals < 1) throw fault(text, 'expected name=@file or name=<JSON>')
  const name = text.slice(0, equals)
  const value = text.slice(equals + 1)
  return [name, value.startsWith('@') ? await fromFile(name, value.slice(1), options) : parseJson(name, value)]
}

async function fromFile(name: string, file: string, { rows, pixels, metadata }: InputOptions): Promise<InputValue> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new FlyweightError('invalid_input', `input ${name}: cannot read ${file}`, { cause })
  })
  switch (extname(file).toLowerCase()) {
    case '.json':
      return parseJson(name, bytes.toString('utf8'))
    case '.npy':
      return toWire(takeRows(readNpy(bytes, file), rows))
    case '.npz': {
      const arrays = readNpz(bytes)
      const tensor = arrays.get(name) ?? arrays.get(`in/${name}`)
      if (tensor === undefined) throw fault(name, `${file} has no such array; it has ${[...arrays.keys()].join(', ') || 'none'}`)
      return toWire(takeRows(tensor, rows))
    }
    case '.png':
    case '.jpg':
    case '.jpeg':
    case '.webp': {
      const declared = metadata.find((input) => input.name === name)
      if (declared === undefined) throw fault(name, `the model has no such input; it has ${metadata.map((input) => input.name).join(', ')}`)
      const { imageTensor } = await import('./image-input.js')
      return toWire(await imageTensor(bytes, declared.shape, pixels))
    }
    default:
      throw fault(name, `${file} is none of .json, .npy, .npz, .png, .jpg, .webp`)
  }
}

function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new FlyweightError('invalid_input', `input ${name}: not JSON; a file is given as ${name}=@file`, { cause })
  }
}

function takeRows(tensor: Tensor, rows: InputOptions['rows']): Tensor {
  const [total = 1, ...rest] = tensor.dims
  if (rows === undefined || tensor.dims.length === 0) return tensor
  if (rows.from + rows.count > total)
    throw new FlyweightError('invalid_input', `rows ${rows.from} to ${rows.from + rows.count - 1} were asked for, the file has ${total}`)
  const width = tensor.data.length / total
  return { dtype: tensor.dtype, dims: [rows.count, ...rest], data: tensor.data.slice(rows.from * width, (rows.from + rows.count) * width) }
}

function toWire({ dtype, dims, data }: Tensor): InputValue {
  if (Array.isArray(data)) return { shape: dims, dtype, data }
  return { shape: dims, dtype, data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64') }
}

/** Elements of an output that came as base64 (little-endian) or as a flat array. */
export function numbersOf(dtype: string, data: unknown): ArrayLike<number | bigint> {
  if (typeof data !== 'string') return data as number[]
  const bytes = Buffer.from(data, 'base64')
  const { array, bytes: width } = dtypes[dtype as Exclude<DType, 'string'>]
  return new array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength), 0, bytes.byteLength / width)
}

function fault(name: string, detail: string): FlyweightError {
  return new FlyweightError('invalid_input', `input ${name}: ${detail}`)
}
