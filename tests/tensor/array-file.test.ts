// Arrays read from disk by rows: the same values as reading the whole file, in any order of reads, whether the
// zip stores or deflates them; and damage is told, not returned as data.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openNpy, openNpz } from '#flyweight/tensor/array-file.js'
import { writeNpy } from '#flyweight/tensor/npy.js'
import { readNpz, writeNpz } from '#flyweight/tensor/npz.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-arrays-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const put = (name: string, bytes: Uint8Array): string => {
  const file = join(folder, name)
  writeFileSync(file, bytes)
  return file
}
// Long enough for several chunks of inflation; some of it compresses well, some of it hardly.
const rows = 500
const x: Tensor = {
  dtype: 'float32',
  dims: [rows, 50],
  data: Float32Array.from({ length: rows * 50 }, (_, i) => (i % 3 === 0 ? Math.fround(Math.sin(i) * 1e3) : 7)),
}
const t: Tensor = { dtype: 'string', dims: [rows], data: Array.from({ length: rows }, (_, i) => `row ${i}`) }
const wide: Tensor = { dtype: 'int64', dims: [], data: BigInt64Array.of(1n << 40n) }
const arrays = new Map([
  ['x', x],
  ['in/t', t],
  ['scalar', wide],
])

describe.each([true, false])('an .npz file with compression %s', (compress) => {
  const open = () => openNpz(put(`${compress}.npz`, writeNpz(arrays, { compress })))

  it('has the arrays of the whole file', () => {
    const opened = open()
    expect(new Map([...opened].map(([name, array]) => [name, array.whole()]))).toEqual(readNpz(writeNpz(arrays, { compress })))
    expect(opened.get('x')).toMatchObject({ dtype: 'float32', dims: [rows, 50] })
  })

  it('gives the same rows whatever was read before', () => {
    const opened = open()
    const range = fc.tuple(fc.nat(rows), fc.nat(rows)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)
    fc.assert(
      fc.property(range, ([first, last]) => {
        expect(opened.get('x')!.rows(first, last)).toEqual({ dtype: 'float32', dims: [last - first, 50], data: x.data.slice(first * 50, last * 50) })
        expect(opened.get('in/t')!.rows(first, last).data).toEqual(t.data.slice(first, last))
      }),
      { numRuns: 60, seed: 4 },
    )
  })

  it('does not return data of a file that was cut', () => {
    const bytes = writeNpz(new Map([['x', x]]), { compress })
    const file = put('cut.npz', bytes)
    const array = openNpz(file).get('x')!
    writeFileSync(file, bytes.subarray(0, bytes.length >> 1))
    expect(() => array.whole()).toThrow(/array x\.npy: cannot be read/)
    expect(() => openNpz(file)).toThrow(/not an \.npz file: it has no zip directory/)
  })
})

it('reads the sizes of zip64, which NumPy may write', () => {
  // One stored member, its size and place in the extra field of the directory and its end in the zip64 records.
  const npy = Buffer.from(writeNpy(x))
  const name = Buffer.from('x.npy')
  const local = Buffer.alloc(30)
  local.writeUInt32LE(0x04034b50, 0)
  local.writeUInt16LE(name.length, 26)
  const entry = Buffer.alloc(46)
  entry.writeUInt32LE(0x02014b50, 0)
  for (const field of [20, 24, 42]) entry.writeUInt32LE(0xffffffff, field)
  entry.writeUInt16LE(name.length, 28)
  entry.writeUInt16LE(28, 30)
  const extra = Buffer.alloc(28)
  extra.writeUInt16LE(1, 0)
  extra.writeUInt16LE(24, 2)
  extra.writeBigUInt64LE(BigInt(npy.length), 4)
  extra.writeBigUInt64LE(BigInt(npy.length), 12)
  const start = local.length + name.length + npy.length
  const directory = Buffer.concat([entry, name, extra])
  const end = Buffer.alloc(56 + 20 + 22)
  end.writeUInt32LE(0x06064b50, 0)
  for (const [field, value] of Object.entries({ 24: 1, 32: 1, 40: directory.length, 48: start })) end.writeBigUInt64LE(BigInt(value), Number(field))
  end.writeUInt32LE(0x07064b50, 56)
  end.writeBigUInt64LE(BigInt(start + directory.length), 56 + 8)
  end.writeUInt32LE(0x06054b50, 76)
  end.fill(0xff, 76 + 8, 76 + 20)
  const opened = openNpz(put('wide.npz', Buffer.concat([local, name, npy, directory, end])))
  expect(opened.get('x')!.rows(3, 5).data).toEqual(x.data.slice(150, 250))
})

it('reads .npy files by rows', () => {
  expect(openNpy(put('x.npy', writeNpy(x))).rows(498, 500).data).toEqual(x.data.slice(498 * 50))
  expect(() => openNpy(put('bad.npy', Buffer.from('no array')))).toThrow(/array bad\.npy: not in \.npy format/)
  expect(() => openNpy(put('short.npy', writeNpy(x).slice(0, 1000)))).toThrow(/short\.npy: holds \d+ bytes of data, shape \(500, 50\)/)
})
