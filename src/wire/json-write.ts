// Tensors → JSON text, written by hand: typed arrays join faster than JSON.stringify walks a copy.
// float32 is written as the exact double and 64-bit integers as plain digits, so that nothing is lost in
// the text but the sign of a zero; non-finite floats are the strings "NaN", "Infinity" and "-Infinity", which numpy reads back.
import { float32FromFloat16 } from '../tensor/float16.js'
import type { Tensor } from '../tensor/tensor.js'
import { rawBytes } from './binary.js'
import { fromBfloat16Bits } from './elements.js'

/** A flat JSON array of the elements, row-major. */
export function jsonArray(tensor: Tensor): string {
  const { dtype, data } = tensor
  switch (dtype) {
    case 'string':
      return JSON.stringify(data)
    case 'bool':
      return `[${Array.from(data as Uint8Array, (value) => value !== 0).join(',')}]`
    case 'float16':
      return floats(float32FromFloat16(data as Uint16Array))
    case 'bfloat16':
      return floats(Float32Array.from(data as Uint16Array, fromBfloat16Bits))
    case 'float32':
    case 'float64':
      return floats(data as Float32Array)
    case 'uint8':
    case 'int8':
    case 'uint16':
    case 'int16':
    case 'uint32':
    case 'int32':
    case 'int64':
    case 'uint64':
      return `[${(data as Int32Array).join(',')}]`
  }
}

/** A JSON string of the elements' bytes in base64, little-endian. */
export function jsonBase64(tensor: Tensor): string {
  return `"${rawBytes(tensor).toString('base64')}"`
}

function floats(values: Float32Array): string {
  const text = values.join(',')
  // Finite numbers have no capital letters.
  return text.includes('N') || text.includes('I') ? `[${text.replace(/NaN|-?Infinity/g, '"$&"')}]` : `[${text}]`
}
