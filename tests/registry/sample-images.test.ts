// Sample inputs from folders of images: rows, labels, scaling, and what is refused by name.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadSamples } from '#flyweight/registry/samples.js'
import { float32FromFloat16 } from '#flyweight/tensor/float16.js'
import type { DType, TensorSpec } from '#flyweight/tensor/tensor.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-images-test-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

type Colour = readonly [number, number, number]
/** An image of one colour, lossless. */
async function paint(name: string, [r, g, b]: Colour, { width = 4, height = 4 } = {}): Promise<void> {
  mkdirSync(dirname(join(folder, name)), { recursive: true })
  const image = sharp({ create: { width, height, channels: 3, background: { r, g, b } } })
  await (name.endsWith('.webp') ? image.webp({ lossless: true }) : image.png()).toFile(join(folder, name))
}

const settings = (text: string) => writeFileSync(join(folder, 'images.yaml'), text)
const input = (dims: TensorSpec['dims'], dtype: DType = 'float32') => ({ inputs: [{ name: 'x', dtype, dims }], batchable: true })
const rgb = input(['n', 3, 2, 2])
const refusal = (message: string | RegExp) => ({ code: 'invalid_input', message: expect.stringMatching(message) as string })

describe('rows', () => {
  it('are the images in order of their names, at the size of the input, from 0 to 1', async () => {
    await paint('b.png', [0, 255, 51])
    await paint('a.webp', [255, 0, 102], { width: 9, height: 5 })
    writeFileSync(join(folder, 'notes.txt'), 'no image')
    const samples = (await loadSamples(folder, rgb))!
    expect(samples.rows).toBe(2)
    expect(samples.labels).toBeUndefined()
    const { x } = samples.take(0, 2)
    expect(x!.dims).toEqual([2, 3, 2, 2])
    const planes = Array.from({ length: 6 }, (_, plane) => [...(x!.data as Float32Array).subarray(4 * plane, 4 * plane + 4)])
    for (const [plane, value] of [1, 0, 0.4, 0, 1, 0.2].entries()) for (const got of planes[plane]!) expect(got).toBeCloseTo(value, 6)
    expect(samples.take(1, 1)['x']!.data).toEqual((x!.data as Float32Array).subarray(12))
  })

  it('keep the image where the input leaves sizes free, one shape a batch', async () => {
    await paint('a.png', [9, 9, 9], { width: 8, height: 4 })
    await paint('b.png', [9, 9, 9], { width: 4, height: 4 })
    await paint('c.png', [9, 9, 9], { width: 4, height: 4 })
    const samples = (await loadSamples(folder, input(['n', 3, 2, -1])))!
    expect(samples.take(0, 1)['x']!.dims).toEqual([1, 3, 2, 4])
    expect(samples.alike(0, 3)).toBe(1)
    expect(samples.take(1, 2)['x']!.dims).toEqual([2, 3, 2, 2])
  })

  it('have the layout and type of the input', async () => {
    await paint('a.png', [10, 20, 30])
    expect([...(await loadSamples(folder, input(['n', 1, 1, 3], 'uint8')))!.take(0, 1)['x']!.data]).toEqual([20, 20, 20].map(() => expect.any(Number)))
    expect((await loadSamples(folder, input([1, 2, 1, 3], 'uint8')))!.take(0, 1)['x']).toEqual({
      dtype: 'uint8',
      dims: [1, 2, 1, 3],
      data: Uint8Array.of(10, 20, 30, 10, 20, 30),
    })
    const { x } = (await loadSamples(folder, input([1, 3, 1, 1], 'float16')))!.take(0, 1)
    for (const [i, value] of [10, 20, 30].entries()) expect(float32FromFloat16(x!.data as Uint16Array)[i]).toBeCloseTo(value / 255, 3)
  })

  it('of grey images have three equal channels, of colours one', async () => {
    const grey = sharp({ create: { width: 3, height: 3, channels: 3, background: { r: 80, g: 80, b: 80 } } }).toColourspace('b-w')
    await grey.png().toFile(join(folder, 'grey.png'))
    const values = (await loadSamples(folder, input(['n', 3, 1, 1])))!.take(0, 1)['x']!.data as Float32Array
    for (const value of values) expect(value).toBeCloseTo(80 / 255, 2)
    expect((await loadSamples(folder, input(['n', 1, 2, 2])))!.take(0, 1)['x']!.dims).toEqual([1, 1, 2, 2])
  })

  it('are scaled, shifted and ordered as images.yaml says', async () => {
    await paint('a.png', [255, 0, 51])
    settings('{ range: 0..1, mean: [0.5, 0.25, 0.2], std: [0.5, 0.5, 0.1], bgr: true }')
    const values = [...((await loadSamples(folder, input(['n', 3, 1, 1])))!.take(0, 1)['x']!.data as Float32Array)]
    for (const [i, value] of [(0.2 - 0.5) / 0.5, -0.25 / 0.5, (1 - 0.2) / 0.1].entries()) expect(values[i]).toBeCloseTo(value, 5)
  })

  it('differ in digest when a pixel, a setting or the input does', async () => {
    await paint('a.png', [1, 2, 3])
    const digest = async (signature = rgb) => (await loadSamples(folder, signature))!.digest
    const first = await digest()
    expect(await digest()).toBe(first)
    expect(await digest(input(['n', 3, 4, 4]))).not.toBe(first)
    settings('range: -1..1')
    const second = await digest()
    expect(second).not.toBe(first)
    await paint('a.png', [1, 2, 4])
    expect(await digest()).not.toBe(second)
  })
})

describe('labels', () => {
  it('are the numbers that folders are called', async () => {
    await paint('10/a.png', [1, 1, 1])
    await paint('2/b.png', [1, 1, 1])
    await paint('2/a.png', [1, 1, 1])
    expect((await loadSamples(folder, rgb))!.labels).toEqual(Int32Array.of(10, 2, 2))
  })

  it('are the places of folders in the order of their names, or of classes', async () => {
    await paint('dog/a.png', [1, 1, 1])
    await paint('cat/a.png', [1, 1, 1])
    mkdirSync(join(folder, 'empty'))
    expect((await loadSamples(folder, rgb))!.labels).toEqual(Int32Array.of(0, 1))
    settings('classes: [bird, dog, cat]')
    expect((await loadSamples(folder, rgb))!.labels).toEqual(Int32Array.of(2, 1))
  })
})

describe('refused', () => {
  it('is a file that is no image, by its name', async () => {
    await paint('cat/a.png', [1, 1, 1])
    writeFileSync(join(folder, 'cat', 'b.jpg'), 'no image')
    await expect(loadSamples(folder, rgb)).rejects.toMatchObject(refusal(/^samples cat\/b\.jpg: it is no image that can be decoded/))
  })

  it.each([
    [{ inputs: [...rgb.inputs, { name: 'y', dtype: 'float32' as const, dims: ['n', 2] }], batchable: true }, /the model has the inputs "x", "y"/],
    [input(['n', 8]), /takes "x" as float32 \[n, 8\], expected one input/],
    [input(['n', 4, 8, 8]), /takes "x" as float32 \[n, 4, 8, 8\]/],
    [input(['n', 3, 8, 8], 'int64'), /takes "x" as int64/],
    [{ ...input([8, 3, 8, 8]), batchable: false }, /always 8 at a time/],
  ])('is a model that takes no single images: %#', async (signature, message) => {
    await paint('a.png', [1, 1, 1])
    await expect(loadSamples(folder, signature)).rejects.toMatchObject(refusal(message))
  })

  it.each([
    ['range: 0..2', /images\.yaml: \/range must be one of 0\.\.1, -1\.\.1, 0\.\.255; got "0\.\.2"/],
    ['colour: red', /"colour" is no setting, expected one of range, mean, std, bgr, classes/],
    ['mean: [1, 2]', /\/mean has 2 numbers, expected 3/],
    ['std: [0, 1, 1]', /\/std\/0 .*; got 0/],
    ['range: [', /it is not YAML/],
    ['classes: [dog]', /samples cat\/: it is none of the classes that images\.yaml names: dog/],
  ])('is the setting %s', async (text, message) => {
    await paint('cat/a.png', [1, 1, 1])
    settings(text)
    await expect(loadSamples(folder, rgb)).rejects.toMatchObject(refusal(message))
  })

  it('are images of which some have labels and others do not', async () => {
    await paint('cat/a.png', [1, 1, 1])
    await paint('b.png', [1, 1, 1])
    await expect(loadSamples(folder, rgb)).rejects.toMatchObject(refusal(/some files have "labels" and others do not, as b\.png/))
  })
})
