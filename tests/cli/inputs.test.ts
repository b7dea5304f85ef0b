import { parseInput, type InputOptions } from '#flyweight/cli/inputs.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, describe, expect, it } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'flyweight-inputs-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const options: InputOptions = { pixels: '0..1', metadata: [{ name: 'x', datatype: 'FP32', shape: [-1, 3, 4, -1] }] }

function floats(value: unknown): number[] {
  const bytes = Buffer.from((value as { data: string }).data, 'base64')
  return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(index * 4))
}

describe('parseInput', () => {
  it('passes JSON through', async () => {
    expect(await parseInput('x=[[1,2],[3,4]]', options)).toEqual([
      'x',
      [
        [1, 2],
        [3, 4],
      ],
    ])
  })

  it('takes the rows asked for out of an .npz file, whose array may carry the prefix in/', async () => {
    const file = join(folder, 'rows.npz')
    writeFileSync(file, writeNpz(new Map([['in/x', { dtype: 'float32', dims: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) }]])))
    const [, value] = await parseInput(`x=@${file}`, { ...options, rows: { from: 1, count: 1 } })
    expect(value).toMatchObject({ shape: [1, 2], dtype: 'float32' })
    expect(floats(value)).toEqual([3, 4])
  })

  it('says which arrays a file has when the wanted one is missing, and how many rows when too many are asked for', async () => {
    const file = join(folder, 'other.npz')
    writeFileSync(file, writeNpz(new Map([['y', { dtype: 'float32', dims: [1], data: Float32Array.of(1) }]])))
    await expect(parseInput(`x=@${file}`, options)).rejects.toThrow(/no such array; it has y/)
    await expect(parseInput(`y=@${file}`, { ...options, rows: { from: 0, count: 2 } })).rejects.toThrow(/the file has 1/)
  })

  it('lays an image out as planes, resized to the declared height with its aspect kept', async () => {
    const file = join(folder, 'red.png')
    writeFileSync(
      file,
      await sharp({ create: { width: 16, height: 8, channels: 3, background: { r: 255, g: 0, b: 51 } } })
        .png()
        .toBuffer(),
    )
    const [, value] = await parseInput(`x=@${file}`, { ...options, pixels: '-1..1' })
    expect(value).toMatchObject({ shape: [1, 3, 4, 8] })
    const planes = floats(value)
    expect(planes.slice(0, 32).every((pixel) => pixel === 1)).toBe(true)
    expect(planes.slice(32, 64).every((pixel) => pixel === -1)).toBe(true)
    expect(planes[64]).toBeCloseTo(-0.6, 6)
  })

  it.each([
    ['nonsense', /expected name=@file or name=<JSON>/],
    ['x=not json', /not JSON/],
    ['x=@/nowhere/at/all.npy', /cannot read/],
  ])('refuses %j with a reason', async (text, reason) => {
    await expect(parseInput(text, options)).rejects.toThrow(reason)
  })
})
