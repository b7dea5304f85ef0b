// Synthetic feeds: right shapes and types, the same for the same seed, harmless values.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { syntheticFeeds, tileRows } from '#flyweight/runtime/sample-inputs.js'
import { dtypes, elementCount, type DType, type TensorSpec } from '#flyweight/tensor/tensor.js'

const dtype = fc.constantFrom(...(Object.keys(dtypes) as DType[]))
const dim = fc.oneof(fc.integer({ min: 1, max: 4 }), fc.constant(-1), fc.constantFrom('n', 'length'))
const spec: fc.Arbitrary<TensorSpec> = fc.record({ name: fc.constant('x'), dtype, dims: fc.array(dim, { maxLength: 4 }) })

test('every tensor has the declared type, fixed dims as declared, and free dims as asked', () => {
  fc.assert(
    fc.property(spec, fc.integer({ min: 1, max: 5 }), fc.nat(), (input, batch, seed) => {
      const { x } = syntheticFeeds([input], { batch, seed, freeDim: 3 })
      if (x === undefined) throw new Error('no tensor')
      const batchName = typeof input.dims[0] === 'string' ? input.dims[0] : undefined
      const expected = input.dims.map((dim, axis) => {
        if (typeof dim === 'number' && dim >= 0) return dim
        return axis === 0 || dim === batchName ? batch : 3
      })
      expect(x.dims).toEqual(expected)
      expect(x.dtype).toBe(input.dtype)
      expect(x.data).toHaveLength(elementCount(expected))
      expect(x.data).toBeInstanceOf(dtypes[input.dtype].array)
      expect(syntheticFeeds([input], { batch, seed, freeDim: 3 })).toEqual({ x })
    }),
    { numRuns: 200, seed: 5 },
  )
})

test('floats look like normal noise, integers are valid as ids and masks, and seeds differ', () => {
  const inputs: TensorSpec[] = [
    { name: 'floats', dtype: 'float32', dims: [10_000] },
    { name: 'ids', dtype: 'int64', dims: [1000] },
  ]
  const { floats, ids } = syntheticFeeds(inputs, { batch: 1, seed: 1 })
  const values = floats?.data as Float32Array
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length
  expect(Math.abs(mean)).toBeLessThan(0.05)
  expect(Math.abs(variance - 1)).toBeLessThan(0.05)
  expect(new Set(ids?.data as BigInt64Array)).toEqual(new Set([0n, 1n]))
  expect(syntheticFeeds(inputs, { batch: 1, seed: 2 })['floats']).not.toEqual(floats)
})

test('tiling repeats a row, of numbers, bigints or strings', () => {
  const row = {
    a: { dtype: 'float32' as const, dims: [1, 2], data: new Float32Array([1, 2]) },
    b: { dtype: 'int64' as const, dims: [1], data: new BigInt64Array([7n]) },
    c: { dtype: 'string' as const, dims: [1, 1], data: ['x'] },
  }
  expect(tileRows(row, 3)).toEqual({
    a: { dtype: 'float32', dims: [3, 2], data: new Float32Array([1, 2, 1, 2, 1, 2]) },
    b: { dtype: 'int64', dims: [3], data: new BigInt64Array([7n, 7n, 7n]) },
    c: { dtype: 'string', dims: [3, 1], data: ['x', 'x', 'x'] },
  })
})

test('one copy of a row is one, too: whoever gets it may move it away', () => {
  const row = {
    a: { dtype: 'float32' as const, dims: [3], data: new Float32Array([1, 2, 3]) },
    s: { dtype: 'int64' as const, dims: [], data: new BigInt64Array([7n]) },
  }
  const { a, s } = tileRows(row, 1)
  expect({ a, s }).toEqual(row)
  expect(a!.data).not.toBe(row.a.data)
})
