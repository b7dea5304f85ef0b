// Arbitrary tensors of every dtype, and comparison element by element (NaN equals NaN, −0 is not 0).
import fc from 'fast-check'
import { dtypes, elementCount, type DType, type Tensor, type TensorData } from '#flyweight/tensor/tensor.js'

const shape = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 })

function elements(dtype: DType, count: number): fc.Arbitrary<TensorData> {
  const many = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(one, { minLength: count, maxLength: count })
  switch (dtype) {
    case 'string':
      return many(fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\0', '0')))
    case 'bool':
      return many(fc.integer({ min: 0, max: 1 })).map((values) => Uint8Array.from(values))
    case 'float32':
      return many(fc.float()).map((values) => Float32Array.from(values))
    case 'float64':
      return many(fc.double()).map((values) => Float64Array.from(values))
    case 'float16':
    case 'bfloat16':
      // NaNs have many patterns, of which JSON keeps one.
      return many(fc.integer({ min: 0, max: 0xffff }).filter((bits) => !isNaN16(dtype, bits))).map((values) => Uint16Array.from(values))
    case 'int64':
      return many(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })).map((values) => BigInt64Array.from(values))
    case 'uint64':
      return many(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })).map((values) => BigUint64Array.from(values))
    case 'uint8':
    case 'int8':
    case 'uint16':
    case 'int16':
    case 'uint32':
    case 'int32': {
      const { array, bytes } = dtypes[dtype]
      const low = dtype.startsWith('u') ? 0 : -(2 ** (bytes * 8 - 1))
      return many(fc.integer({ min: low, max: low + 2 ** (bytes * 8) - 1 })).map((values) => array.from(values) as TensorData)
    }
  }
}

function isNaN16(dtype: 'float16' | 'bfloat16', bits: number): boolean {
  const exponent = dtype === 'float16' ? 0x7c00 : 0x7f80
  return (bits & exponent) === exponent && (bits & 0x7fff) !== exponent
}

export const anyTensor: fc.Arbitrary<Tensor> = fc
  .tuple(fc.constantFrom(...(Object.keys(dtypes) as DType[])), shape)
  .chain(([dtype, dims]) => elements(dtype, elementCount(dims)).map((data) => ({ dtype, dims, data })))

export function same(a: Tensor, b: Tensor): boolean {
  const [left, right] = [Array.from(a.data as ArrayLike<unknown>), Array.from(b.data as ArrayLike<unknown>)]
  return a.dtype === b.dtype && String(a.dims) === String(b.dims) && left.length === right.length && left.every((value, index) => equal(value, right[index]))
}

/** JSON writes −0 as 0. */
function equal(a: unknown, b: unknown): boolean {
  return Object.is(a, b) || a === b
}

/** JSON of a tensor as nested arrays; 64-bit integers as decimal strings. */
export function nested({ dtype, dims }: Tensor, flat: string): string {
  const wide = dtype === 'int64' || dtype === 'uint64'
  const values = JSON.parse(wide ? flat.replace(/-?\d+/g, '"$&"') : flat) as unknown[]
  const build = (axis: number, from: number, to: number): unknown => {
    if (axis === dims.length) return values[from]
    const size = (to - from) / (dims[axis] as number)
    return Array.from({ length: dims[axis] as number }, (_, index) => build(axis + 1, from + index * size, from + (index + 1) * size))
  }
  return JSON.stringify(build(0, 0, values.length))
}
