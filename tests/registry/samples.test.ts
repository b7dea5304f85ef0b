// Sample inputs: taken across files as if they were one, and refused by the name of file and array.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadSamples } from '#flyweight/registry/samples.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import type { Tensor, TensorSpec } from '#flyweight/tensor/tensor.js'
import { put } from './models.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-samples-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const x: TensorSpec = { name: 'x', dtype: 'float32', dims: ['n', 2] }
const signature = { inputs: [x], batchable: true }

const floats = (dims: number[], data: number[]): Tensor => ({ dtype: 'float32', dims, data: Float32Array.from(data) })
const ints = (...values: number[]): Tensor => ({ dtype: 'int64', dims: [values.length], data: BigInt64Array.from(values, BigInt) })
const write = (name: string, arrays: Record<string, Tensor>) => put(folder, name, writeNpz(new Map(Object.entries(arrays))))
const refused = (message: string | RegExp, code = 'invalid_input') => ({
  code,
  message: typeof message === 'string' ? (expect.stringContaining(message) as string) : (expect.stringMatching(message) as string),
})

describe('samples', () => {
  it('are absent where the folder or its files are', async () => {
    expect(await loadSamples(join(folder, 'nowhere'), signature)).toBeUndefined()
    put(folder, 'readme.txt', 'no samples')
    expect(await loadSamples(folder, signature)).toBeUndefined()
  })

  it('are taken across files in name order, the same rows whatever was taken before', async () => {
    write('b.npz', { x: floats([3, 2], [4, 5, 6, 7, 8, 9]), labels: ints(12, 13, 14) })
    write('a.npz', { 'in/x': floats([2, 2], [0, 1, 2, 3]), labels: ints(10, 11), 'out/y': floats([1], [9]) })
    write('c.npz', { x: floats([1, 2], [10, 11]), labels: ints(15) })
    const samples = (await loadSamples(folder, signature))!
    expect(samples.rows).toBe(6)
    expect(samples.labels).toEqual(Int32Array.of(10, 11, 12, 13, 14, 15))
    for (let from = 5; from >= 0; from--) {
      for (let count = 1; from + count <= 6; count++) {
        const expected = Array.from({ length: count * 2 }, (_, index) => from * 2 + index)
        expect(samples.take(from, count)).toEqual({ x: floats([count, 2], expected) })
      }
    }
  })

  it('come freshly allocated: a run may take their buffers away', async () => {
    write('a.npz', { x: floats([2, 2], [0, 1, 2, 3]) })
    const samples = (await loadSamples(folder, signature))!
    for (const count of [1, 2]) {
      ;(samples.take(0, count)['x']!.data as Float32Array).fill(-1)
      expect(samples.take(0, 1)).toEqual({ x: floats([1, 2], [0, 1]) })
    }
  })

  it.each([
    [-1, 1],
    [0, 0],
    [0, 3],
    [2, 1],
  ])('have no rows %i + %i', async (from, count) => {
    write('a.npz', { x: floats([2, 2], [0, 1, 2, 3]) })
    const samples = (await loadSamples(folder, signature))!
    expect(() => samples.take(from, count)).toThrow(RangeError)
  })

  it('of a model that does not batch are one a file, whatever their first dimension', async () => {
    const single = { inputs: [{ ...x, dims: ['length', 2] }], batchable: false }
    write('a.npz', { x: floats([3, 2], [0, 1, 2, 3, 4, 5]), labels: ints(7) })
    write('b.npz', { x: floats([1, 2], [6, 7]), labels: ints(8) })
    const samples = (await loadSamples(folder, single))!
    expect(samples.rows).toBe(2)
    expect(samples.labels).toEqual(Int32Array.of(7, 8))
    expect(samples.take(0, 1)['x']?.dims).toEqual([3, 2])
    expect(samples.take(1, 1)).toEqual({ x: floats([1, 2], [6, 7]) })
    expect(() => samples.take(0, 2)).toThrow(RangeError)
  })

  it('join string tensors too', async () => {
    const text = (...data: string[]): Tensor => ({ dtype: 'string', dims: [data.length], data })
    write('a.npz', { t: text('one', 'two') })
    write('b.npz', { t: text('three') })
    const samples = (await loadSamples(folder, { inputs: [{ name: 't', dtype: 'string', dims: ['n'] }], batchable: true }))!
    expect(samples.take(1, 2)).toEqual({ t: text('two', 'three') })
  })

  it('have a digest that changes with any file', async () => {
    const digest = async () => (await loadSamples(folder, signature))!.digest
    write('a.npz', { x: floats([1, 2], [0, 1]) })
    const one = await digest()
    expect(await digest()).toBe(one)
    write('b.npz', { x: floats([1, 2], [0, 1]) })
    const two = await digest()
    write('b.npz', { x: floats([1, 2], [0, 2]) })
    expect(new Set([one, two, await digest()]).size).toBe(3)
  })

  it.each<[string, Record<string, Tensor>, RegExp]>([
    ['lack an input', { y: floats([1, 2], [0, 1]) }, /b\.npz: it has no array for input "x"; it has "y"/],
    ['have an array of no input', { x: floats([1, 2], [0, 1]), extra: floats([1], [0]) }, /b\.npz: array "extra" is no input of the model, which has "x"/],
    ['have another dtype', { x: { dtype: 'float64', dims: [1, 2], data: Float64Array.of(0, 1) } }, /b\.npz: array "x" is float64, expected float32/],
    ['have another size', { x: floats([1, 3], [0, 1, 2]) }, /b\.npz: array "x" has dims \[1, 3\], expected \[n, 2\]/],
    ['have another rank', { 'in/x': floats([2], [0, 1]) }, /b\.npz: array "in\/x" has dims \[2\], expected \[n, 2\]/],
    ['have no rows', { x: floats([0, 2], []) }, /b\.npz: it has no rows/],
    ['have too few labels', { x: floats([2, 2], [0, 1, 2, 3]), labels: ints(1) }, /b\.npz: array "labels" is int64 \[1\], expected integers \[2\]/],
    [
      'have labels that are not classes',
      { x: floats([1, 2], [0, 1]), labels: floats([1], [0.5]) },
      /b\.npz: array "labels" is float32 \[1\], expected integers \[1\]/,
    ],
  ])('are refused when they %s', async (_, arrays, message) => {
    write('a.npz', { x: floats([1, 2], [0, 1]), labels: ints(0) })
    write('b.npz', arrays)
    await expect(loadSamples(folder, signature)).rejects.toMatchObject(refused(message))
  })

  it('are refused when their inputs differ in rows, or only some files have labels', async () => {
    const both = { inputs: [x, { ...x, name: 'z' }], batchable: true }
    write('a.npz', { x: floats([2, 2], [0, 1, 2, 3]), z: floats([1, 2], [0, 1]) })
    await expect(loadSamples(folder, both)).rejects.toMatchObject(refused('a.npz: its inputs have 2 and 1 rows'))
    write('a.npz', { x: floats([1, 2], [0, 1]), labels: ints(0) })
    write('b.npz', { x: floats([1, 2], [0, 1]) })
    await expect(loadSamples(folder, signature)).rejects.toMatchObject(refused('"labels"'))
  })

  it('are refused by name when a file is no .npz at all', async () => {
    put(folder, 'broken.npz', 'not a zip')
    await expect(loadSamples(folder, signature)).rejects.toMatchObject(refused(/broken\.npz: it is not an \.npz file/))
  })
})
