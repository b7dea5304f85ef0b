// NumPy's .npz: a zip of .npy files, the format of sample inputs. Little-endian C-order arrays of plain
// dtypes only: no pickles, no Fortran order, no structured types. Format: numpy.lib.format, versions 1 and 2.
import { unzipSync, zipSync } from 'fflate'
import { FlyweightError, messageOf } from '../errors.js'
import { allocate, dtypes, elementCount, viewBytes, type DType, type Tensor } from './tensor.js'

const MAGIC = '\x93NUMPY'
// Zip members are stored with this time, so that equal arrays give equal bytes.
const EPOCH = '1980-01-01T00:00:00'
const MAX_BYTES = 4 * 2 ** 30

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

/**
 * Arrays of a .npz file by name, in file order. Fixed-width unicode arrays (`<U`) become string tensors.
 * @throws FlyweightError `invalid_input` naming the array that cannot be read and why.
 */
export function readNpz(bytes: Uint8Array): Map<string, Tensor> {
  let files: Record<string, Uint8Array>
  let total = 0
  try {
    files = unzipSync(bytes, {
      filter: ({ name, originalSize }) => {
        total += originalSize
        if (total > MAX_BYTES) throw new RangeError(`"${name}" makes it more than ${MAX_BYTES} bytes unpacked`)
        return name.endsWith('.npy')
      },
    })
  } catch (cause) {
    throw new FlyweightError('invalid_input', `not an .npz file: ${messageOf(cause)}`, { cause })
  }
  return new Map(Object.entries(files).map(([file, npy]) => [file.slice(0, -'.npy'.length), readNpy(npy, file)]))
}

/** Packs arrays as .npz, compressed; equal arrays give equal bytes. bfloat16 has no NumPy dtype and throws a TypeError. */
export function writeNpz(arrays: ReadonlyMap<string, Tensor>): Uint8Array {
  const files = [...arrays].map(([name, tensor]): [string, Uint8Array] => [`${name}.npy`, writeNpy(tensor)])
  return zipSync(Object.fromEntries(files), { mtime: EPOCH, level: 6 })
}

/** One array of a .npy file; `file` names it in errors. @throws FlyweightError `invalid_input` */
export function readNpy(bytes: Uint8Array, file: string): Tensor {
  const fail = (reason: string): never => {
    throw new FlyweightError('invalid_input', `array ${file}: ${reason}`)
  }
  if (bytes.length < 12 || Buffer.from(bytes.subarray(0, 6)).toString('latin1') !== MAGIC) fail('not in .npy format')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wide = view.getUint8(6) >= 2
  const start = wide ? 12 : 10
  const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true))
  const header = Buffer.from(bytes.subarray(start, end)).toString('latin1')
  const descriptor = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? fail(`has no plain dtype in its header ${header.trim()}`)
  if (/'fortran_order':\s*True/.test(header)) fail('is in Fortran order; expected C order (numpy.ascontiguousarray)')
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1] ?? fail(`has no shape in its header ${header.trim()}`)
  const dims = shape
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(Number)
  const byteOrder = descriptor[0] as string
  const kind = descriptor.slice(1)
  const width =
    kind[0] === 'U' ? Number(kind.slice(1)) * 4 : dtypes[dtypeByDescriptor.get(kind) ?? fail(`has dtype ${descriptor}, which is not supported`)].bytes
  if (byteOrder === '>') fail(`is big-endian (${descriptor}); expected little-endian`)
  const count = elementCount(dims)
  if (bytes.length - end !== count * width)
    fail(`holds ${bytes.length - end} bytes of data, shape (${dims.join(', ')}) of ${descriptor} needs ${count * width}`)
  const body = bytes.slice(end)
  if (kind[0] === 'U') return { dtype: 'string', dims, data: Array.from({ length: count }, (_, i) => readText(body, i * width, width)) }
  const dtype = dtypeByDescriptor.get(kind) as Exclude<DType, 'string'>
  return { dtype, dims, data: viewBytes(dtype, body) }
}

function readText(bytes: Uint8Array<ArrayBuffer>, offset: number, width: number): string {
  const points = new Uint32Array(bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + offset + width))
  const used = points.findLastIndex((point) => point !== 0) + 1
  return String.fromCodePoint(...points.subarray(0, used))
}

function writeNpy({ dtype, dims, data }: Tensor): Uint8Array {
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
