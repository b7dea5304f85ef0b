// NumPy's .npy: one array. Little-endian C-order arrays of plain dtypes only: no pickles, no Fortran order, no
// structured types. Format: numpy.lib.format, versions 1 and 2. Knows no files: parts of them come as bytes.
import { FlyweightError } from '../errors.js'
import { allocate, dtypes, elementCount, viewBytes, type DType, type Tensor, type TensorData } from './tensor.js'

const MAGIC = '\x93NUMPY'
/** Bytes from which npyHeaderEnd can tell where the header ends. */
export const NPY_PREFIX = 12

const descriptors: Partial<Record<DType, string>> = {
  float16: '<f2',
  float32: '<f4',
  float64: '<f8',
  int8: '|i1',
  uint8: '|u1',
  int16: '<i2',
  uint16: '<u2',
  int32: '<i4',
  uint32: '<u4',
  int64: '<i8',
  uint64: '<u8',
  bool: '|b1',
}
const dtypeByDescriptor = new Map(Object.entries(descriptors).map(([dtype, descriptor]) => [descriptor.slice(1), dtype as Exclude<DType, 'string'>]))

/** What a .npy file says about itself before its data. */
export interface NpyHeader {
  dtype: DType
  dims: readonly number[]
  /** Bytes an element takes in the file. */
  width: number
  /** Where the data starts. */
  dataStart: number
}

/** Where the header ends, from the first bytes of a file. @throws FlyweightError `invalid_input` */
export function npyHeaderEnd(prefix: Uint8Array, file: string): number {
  if (prefix.length < NPY_PREFIX || Buffer.from(prefix.subarray(0, 6)).toString('latin1') !== MAGIC) throw fault(file, 'not in .npy format')
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength)
  return view.getUint8(6) >= 2 ? NPY_PREFIX + view.getUint32(8, true) : 10 + view.getUint16(8, true)
}

/**
 * Reads the header of a file of `size` bytes, of which `bytes` are those up to npyHeaderEnd.
 * @throws FlyweightError `invalid_input` naming the file and why it cannot be read
 */
export function parseNpyHeader(bytes: Uint8Array, size: number, file: string): NpyHeader {
  const dataStart = npyHeaderEnd(bytes, file)
  const header = Buffer.from(bytes.subarray(10, dataStart)).toString('latin1')
  const descriptor = /'descr':\s*'([^']+)'/.exec(header)?.[1]
  if (descriptor === undefined) throw fault(file, `has no plain dtype in its header ${header.trim()}`)
  if (/'fortran_order':\s*True/.test(header)) throw fault(file, 'is in Fortran order; expected C order (numpy.ascontiguousarray)')
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1]
  if (shape === undefined) throw fault(file, `has no shape in its header ${header.trim()}`)
  const dims = shape
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(Number)
  const kind = descriptor.slice(1)
  const dtype = kind.startsWith('U') ? 'string' : dtypeByDescriptor.get(kind)
  if (dtype === undefined) throw fault(file, `has dtype ${descriptor}, which is not supported`)
  if (descriptor.startsWith('>')) throw fault(file, `is big-endian (${descriptor}); expected little-endian`)
  const width = dtype === 'string' ? Number(kind.slice(1)) * 4 : dtypes[dtype].bytes
  const needed = elementCount(dims) * width
  if (size - dataStart !== needed) {
    throw fault(file, `holds ${Math.max(0, size - dataStart)} bytes of data, shape (${dims.join(', ')}) of ${descriptor} needs ${needed}`)
  }
  return { dtype, dims, width, dataStart }
}

/** Elements from their bytes in the file; a view on them where they are aligned. */
export function npyElements({ dtype, width }: NpyHeader, bytes: Uint8Array<ArrayBuffer>): TensorData {
  if (dtype !== 'string') return viewBytes(dtype, bytes)
  return Array.from({ length: width === 0 ? 0 : bytes.byteLength / width }, (_, i) => readText(bytes, i * width, width))
}

/** One array of a .npy file; `file` names it in errors. @throws FlyweightError `invalid_input` */
export function readNpy(bytes: Uint8Array, file: string): Tensor {
  const header = parseNpyHeader(bytes, bytes.length, file)
  return { dtype: header.dtype, dims: header.dims, data: npyElements(header, bytes.slice(header.dataStart)) }
}

function fault(file: string, reason: string): FlyweightError {
  return new FlyweightError('invalid_input', `array ${file}: ${reason}`)
}

function readText(bytes: Uint8Array<ArrayBuffer>, offset: number, width: number): string {
  const points = new Uint32Array(bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + offset + width))
  const used = points.findLastIndex((point) => point !== 0) + 1
  return String.fromCodePoint(...points.subarray(0, used))
}

/** Packs one array. @throws TypeError for bfloat16, which has no NumPy dtype */
export function writeNpy({ dtype, dims, data }: Tensor): Uint8Array {
  const [descriptor, body] = Array.isArray(data) ? packTexts(data) : [descriptors[dtype], new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]
  if (descriptor === undefined) throw new TypeError(`NumPy has no dtype for ${dtype}`)
  const shape = dims.length === 1 ? `(${dims[0]},)` : `(${dims.join(', ')})`
  const text = `{'descr': '${descriptor}', 'fortran_order': False, 'shape': ${shape}, }`
  // The data starts at a multiple of 64 bytes; the header's length counts its closing newline.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10
  const npy = new Uint8Array(10 + length + body.length)
  npy.set(Buffer.from(`${MAGIC}\x01\x00`, 'latin1'))
  new DataView(npy.buffer).setUint16(8, length, true)
  npy.set(Buffer.from(`${text.padEnd(length - 1)}\n`, 'latin1'), 10)
  npy.set(body, 10 + length)
  return npy
}

function packTexts(texts: readonly string[]): [string, Uint8Array] {
  const points = texts.map((text) => Array.from(text, (character) => character.codePointAt(0) as number))
  const width = Math.max(1, ...points.map(({ length }) => length))
  const packed = allocate('uint32', width * texts.length) as Uint32Array
  points.forEach((text, i) => packed.set(text, i * width))
  return [`<U${width}`, new Uint8Array(packed.buffer)]
}
