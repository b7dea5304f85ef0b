// NumPy's .npz: a zip of .npy files (npy.ts), the format of sample inputs; whole, in memory. Reading parts of
// one that lies on disk is array-file.ts.
import { unzipSync, zipSync } from 'fflate'
import { FlyweightError, messageOf } from '../errors.js'
import { readNpy, writeNpy } from './npy.js'
import type { Tensor } from './tensor.js'

// Zip members are stored with this time, so that equal arrays give equal bytes.
const EPOCH = '1980-01-01T00:00:00'
const MAX_BYTES = 4 * 2 ** 30

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

/** Packs arrays as .npz, compressed unless told not to; equal arrays give equal bytes. bfloat16 has no NumPy dtype and throws a TypeError. */
export function writeNpz(arrays: ReadonlyMap<string, Tensor>, { compress = true } = {}): Uint8Array {
  const files = [...arrays].map(([name, tensor]): [string, Uint8Array] => [`${name}.npy`, writeNpy(tensor)])
  return zipSync(Object.fromEntries(files), { mtime: EPOCH, level: compress ? 6 : 0 })
}
