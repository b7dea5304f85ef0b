// Samples in the other formats than .npz: JSON Lines and .npy files, alone and mixed, and what is said of those that do not fit.
import { mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadSamples } from '#flyweight/registry/samples.js'
import { writeNpy } from '#flyweight/tensor/npy.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import type { Tensor, TensorSpec } from '#flyweight/tensor/tensor.js'
import { put } from './models.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-formats-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const x: TensorSpec = { name: 'x', dtype: 'float32', dims: ['n', 2] }
const z: TensorSpec = { name: 'z', dtype: 'int64', dims: ['n', 'length'] }
const one = { inputs: [x], batchable: true }
const both = { inputs: [x, z], batchable: true }
const floats = (dims: number[], ...data: number[]): Tensor => ({ dtype: 'float32', dims, data: Float32Array.from(data) })
const longs = (dims: number[], ...data: number[]): Tensor => ({ dtype: 'int64', dims, data: BigInt64Array.from(data, BigInt) })
const lines = (...values: unknown[]) => put(folder, 'a.jsonl', values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join('\n'))

describe('JSON Lines', () => {
  it('hold inputs as POST /infer takes them, a row or several a line, and labels', async () => {
    lines(
      { inputs: { x: [[0, 1]] }, label: 3 },
      '',
      {
        inputs: {
          x: [
            [2, 3],
            [4, 5],
          ],
        },
        labels: [1, 2],
      },
      { inputs: { x: { shape: [1, 2], data: Buffer.from(Float32Array.of(6, 7).buffer).toString('base64') } }, label: 0 },
    ) // prettier-ignore
    const samples = (await loadSamples(folder, one))!
    expect(samples.rows).toBe(4)
    expect(samples.labels).toEqual(Int32Array.of(3, 1, 2, 0))
    for (let from = 3; from >= 0; from--) {
      for (let count = 1; from + count <= 4; count++) {
        expect(samples.take(from, count)).toEqual({ x: floats([count, 2], ...Array.from({ length: 2 * count }, (_, i) => 2 * from + i)) })
      }
    }
    ;(samples.take(1, 1)['x']!.data as Float32Array).fill(-1)
    expect(samples.take(1, 1)).toEqual({ x: floats([1, 2], 2, 3) })
  })

  it('keep integers that no double can hold, and texts beyond ASCII', async () => {
    lines('{"inputs":{"z":[[9007199254740993]],"t":["größe 漢字"]}}', '{"inputs":{"z":[[1]],"t":["b"]}}')
    const samples = (await loadSamples(folder, { inputs: [z, { name: 't', dtype: 'string', dims: ['n'] }], batchable: true }))!
    expect(samples.take(0, 1)['z']!.data).toEqual(BigInt64Array.of(9007199254740993n))
    expect(samples.take(0, 2)['t']!.data).toEqual(['größe 漢字', 'b'])
  })

  it('may differ in shape: then a batch is as long as its rows are alike', async () => {
    const row = (...ids: number[]) => ({ inputs: { x: [[0, 0]], z: [ids] } })
    lines(row(1), row(2), row(3, 4), row(5), row(6))
    const samples = (await loadSamples(folder, both))!
    expect([0, 1, 2, 3, 4].map((from) => samples.alike(from, 3))).toEqual([2, 1, 1, 2, 1])
    expect(() => samples.take(1, 2)).toThrow(/do not fit into one batch/)
    const sorted = (await loadSamples(folder, both, { sortByShape: true }))!
    expect(sorted.alike(0, 9)).toBe(4)
    expect(sorted.take(0, 4)['z']).toEqual(longs([4, 1], 1, 2, 5, 6))
  })

  it.each<[string, unknown, RegExp]>([
    ['are not JSON', '{"inputs"', /samples a\.jsonl line 2: it is not valid JSON/],
    ['are no object', [1], /line 2: it is an array of 1, expected \{"inputs"/],
    ['lack inputs', { label: 1 }, /line 2: \/inputs is nothing, expected an object/],
    ['lack an input', { inputs: {} }, /line 2: \/inputs\/x is missing, expected float32/],
    ['name another input', { inputs: { x: [[0, 1]], y: 1 } }, /line 2: .*names the input "y", expected "x"/],
    ['have another shape', { inputs: { x: [[0, 1, 2]] } }, /line 2: \/inputs\/x came with shape \[1, 3\], expected \[n, 2\]/],
    ['have a value that is no number', { inputs: { x: [[0, 'one']] } }, /line 2: \/inputs\/x\/0\/1 is "one", expected a number/],
    ['have no rows', { inputs: { x: { shape: [0, 2], data: [] } } }, /line 2: it has no rows/],
    ['have a field of another kind', { inputs: { x: [[0, 1]] }, lable: 1 }, /line 2: \/lable is not a field here, expected inputs, label, labels/],
    ['have a label that is no class', { inputs: { x: [[0, 1]] }, label: 'cat' }, /line 2: \/label is "cat", expected one whole number/],
    [
      'have one label for two rows',
      {
        inputs: {
          x: [
            [0, 1],
            [2, 3],
          ],
        },
        label: 1,
      },
      /line 2: \/label is 1, expected "labels", an array of 2 whole numbers/,
    ],
    ['have no label where others do', { inputs: { x: [[0, 1]] } }, /some files have "labels" and others do not, as a\.jsonl line 2/],
  ])('are refused by line and field when they %s', async (_, line, message) => {
    lines({ inputs: { x: [[0, 1]] }, label: 0 }, line)
    await expect(loadSamples(folder, one)).rejects.toMatchObject({ code: 'invalid_input', message: expect.stringMatching(message) as string })
  })

  it('are refused when they changed after they were checked', async () => {
    lines({ inputs: { x: [[0, 1]] } }, { inputs: { x: [[2, 3]] } })
    const samples = (await loadSamples(folder, one))!
    put(folder, 'a.jsonl', '')
    expect(() => samples.take(1, 1)).toThrow(/a\.jsonl line 2: the file changed while it was read/)
  })
})

describe('.npy files', () => {
  const npy = (path: string, tensor: Tensor) => put(folder, path, writeNpy(tensor))

  it('are named after the inputs', async () => {
    npy('x.npy', floats([2, 2], 0, 1, 2, 3))
    npy('z.npy', longs([2, 1], 4, 5))
    npy('labels.npy', longs([2], 1, 0))
    const samples = (await loadSamples(folder, both))!
    expect(samples.labels).toEqual(Int32Array.of(1, 0))
    expect(samples.take(1, 1)).toEqual({ x: floats([1, 2], 2, 3), z: longs([1, 1], 5) })
  })

  it('lie in folders named after the inputs, those of one name together, with or without the batch dimension', async () => {
    npy('x/1.npy', floats([2], 0, 1))
    npy('x/2.npy', floats([2, 2], 2, 3, 4, 5))
    npy('z/1.npy', longs([1, 1], 7))
    npy('z/2.npy', longs([2, 1], 8, 9))
    npy('labels.npy', longs([3], 2, 1, 0))
    put(folder, 'notes/readme.txt', 'nothing to read')
    const samples = (await loadSamples(folder, both))!
    expect(samples.labels).toEqual(Int32Array.of(2, 1, 0))
    expect(samples.take(0, 3)).toEqual({ x: floats([3, 2], 0, 1, 2, 3, 4, 5), z: longs([3, 1], 7, 8, 9) })
  })

  it.each<[string, () => void, RegExp]>([
    ['an input has no folder', () => npy('x/1.npy', floats([2], 0, 1)), /has a folder x\/, but none for input "z"/],
    [
      'a file has no partner',
      () => {
        npy('x/1.npy', floats([2], 0, 1))
        npy('x/2.npy', floats([2], 0, 1))
        npy('z/1.npy', longs([1, 1], 7))
      },
      /2\.npy: it is in one of the folders x\/ and z\/ only/,
    ],
    ['a file is no array', () => ['x', 'z'].forEach((name) => put(folder, `${name}/1.npy`, 'text')), /samples 1\.npy: array 1\.npy: not in \.npy format/],
    ['an input has no file', () => npy('x.npy', floats([1, 2], 0, 1)), /samples \.npy files: it has no array for input "z"/],
  ])('are refused when %s', async (_, write, message) => {
    write()
    await expect(loadSamples(folder, both)).rejects.toMatchObject({ code: 'invalid_input', message: expect.stringMatching(message) as string })
  })
})

describe('a path', () => {
  it('may be a single file of any format', async () => {
    const tensor = floats([2, 2], 0, 1, 2, 3)
    const files = [
      put(folder, 'other.npy', writeNpy(tensor)),
      put(folder, 'b.npz', writeNpz(new Map([['x', tensor]]))),
      lines({
        inputs: {
          x: [
            [0, 1],
            [2, 3],
          ],
        },
      }),
    ] // prettier-ignore
    for (const file of files) expect((await loadSamples(file, one))!.take(0, 2)).toEqual({ x: tensor })
    await expect(loadSamples(put(folder, 'x.csv', '0,1'), one)).rejects.toMatchObject({
      message: expect.stringMatching(/samples x\.csv: expected \.npz or \.jsonl/) as string,
    })
  })

  it('may be a folder of several formats, in one order and with one digest', async () => {
    put(folder, 'b.npz', writeNpz(new Map([['x', floats([1, 2], 2, 3)]])))
    lines({ inputs: { x: [[0, 1]] } })
    put(folder, 'x/0.npy', writeNpy(floats([2], 4, 5)))
    const samples = (await loadSamples(folder, one))!
    expect(samples.take(0, 3)).toEqual({ x: floats([3, 2], 0, 1, 2, 3, 4, 5) })
    expect((await loadSamples(folder, one))!.digest).toBe(samples.digest)
    put(folder, 'x/0.npy', writeNpy(floats([2], 4, 6)))
    expect((await loadSamples(folder, one))!.digest).not.toBe(samples.digest)
  })
})

it('of a large file only the rows taken are held', async () => {
  const signature = { inputs: [{ name: 'x', dtype: 'float32', dims: ['n', 3, 48, 320] }], batchable: true } as const
  const rows = 2000
  const header = Buffer.from(writeNpy({ dtype: 'float32', dims: [0, 3, 48, 320], data: new Float32Array() })).toString('latin1')
  const file = put(folder, 'large.npy', Buffer.from(header.replace('(0, 3, 48, 320), }   ', `(${rows}, 3, 48, 320), }`), 'latin1'))
  // 368 MB of zeros that take no room on disk.
  truncateSync(file, header.length + rows * 3 * 48 * 320 * 4)
  const before = process.memoryUsage().rss
  const samples = (await loadSamples(file, signature))!
  for (let from = 0; from < rows; from += 100) expect(samples.take(from, 4)['x']!.dims).toEqual([4, 3, 48, 320])
  expect(process.memoryUsage().rss - before).toBeLessThan(150e6)
})
