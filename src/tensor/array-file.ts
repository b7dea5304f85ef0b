// Arrays in .npy and .npz files, read by rows: whatever a file's size, only the rows asked for are in memory.
// Whole files in memory are npy.ts and npz.ts.
import { statSync } from 'node:fs'
import { basename } from 'node:path'
import { FlyweightError, messageOf } from '../errors.js'
import { NPY_PREFIX, npyElements, npyHeaderEnd, parseNpyHeader } from './npy.js'
import { elementCount, type DType, type Tensor } from './tensor.js'
import { fileRange, readZipDirectory, type ReadRange } from './zip-file.js'

export interface StoredArray {
  readonly dtype: DType
  readonly dims: readonly number[]
  /** Rows `first` … `last − 1` of the first axis, freshly allocated. @throws FlyweightError `invalid_input` when the file is damaged */
  rows(first: number, last: number): Tensor
  /** The whole array. @throws as rows */
  whole(): Tensor
}

/** @throws FlyweightError `invalid_input` naming the file and why it cannot be read */
export function openNpy(file: string): StoredArray {
  return openArray(fileRange(file), statSync(file).size, basename(file))
}

/** Arrays by name, in file order. @throws FlyweightError `invalid_input` naming the array, or why it is no .npz file */
export function openNpz(file: string): Map<string, StoredArray> {
  let members
  try {
    members = readZipDirectory(fileRange(file), statSync(file).size)
  } catch (cause) {
    throw new FlyweightError('invalid_input', `not an .npz file: ${messageOf(cause)}`, { cause })
  }
  const arrays = members.filter(({ name }) => name.endsWith('.npy'))
  return new Map(arrays.map(({ name, size, read }) => [name.slice(0, -'.npy'.length), openArray(read, size, name)]))
}

function openArray(read: ReadRange, size: number, file: string): StoredArray {
  const readPart: ReadRange = (offset, length) => {
    try {
      return read(offset, length)
    } catch (cause) {
      throw new FlyweightError('invalid_input', `array ${file}: cannot be read: ${messageOf(cause)}`, { cause })
    }
  }
  const prefix = readPart(0, Math.min(size, NPY_PREFIX))
  const end = npyHeaderEnd(prefix, file)
  // In two parts, one after the other: a compressed file is not read twice.
  const header = parseNpyHeader(Buffer.concat([prefix, readPart(prefix.length, Math.max(0, Math.min(size, end) - prefix.length))]), size, file)
  const { dtype, dims, width, dataStart } = header
  const part = (shape: readonly number[], offset: number): Tensor => ({
    dtype,
    dims: shape,
    data: npyElements(header, readPart(dataStart + offset * width, elementCount(shape) * width)),
  })
  const perRow = elementCount(dims.slice(1))
  return { dtype, dims, rows: (first, last) => part([last - first, ...dims.slice(1)], first * perRow), whole: () => part(dims, 0) }
}
