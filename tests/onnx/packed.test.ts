// Packing pays for weights that are mostly zeros, and is left alone for those that are not.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { saveModel } from '#flyweight/onnx/load.js'
import { packModel, plainBytes } from '#flyweight/onnx/packed.js'
import { noise } from './running.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-packed-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** A product whose weights are noise, of which a share is zero. */
function sparse(share: number): ReturnType<typeof model> {
  const dense = noise([256, 256]).data as Float32Array<ArrayBuffer>
  const kept = noise([256, 256], 5).data as Float32Array
  return model({
    inputs: [valueInfo('x', 'float32', ['n', 256])],
    outputs: [valueInfo('y', 'float32', ['n', 256])],
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    initializers: [
      tensorProto(
        'w',
        'float32',
        [256, 256],
        dense.map((value, i) => ((kept[i] as number) < share * 2 - 1 ? 0 : value)),
      ),
    ],
  })
}

it('leaves at most the share that is not zero and a little, and unpacks to the same bytes', async () => {
  const file = join(folder, 'model.onnx')
  for (const share of [0.5, 0.8, 0.9, 0.95]) {
    await saveModel(sparse(share), file)
    const bytes = await packModel(file)
    expect(bytes / (await plainBytes(file))).toBeLessThan(1 - share + 0.08)
    const packed = readFileSync(join(folder, 'packed', 'model.onnx.gz'))
    expect(packed.length).toBe(bytes)
    expect(gunzipSync(packed).equals(readFileSync(file))).toBe(true)
  }
})

it('leaves nothing where it does not pay, not even what was there', async () => {
  const file = join(folder, 'model.onnx')
  await saveModel(sparse(0.9), file)
  await packModel(file)
  for (const share of [0, 0.2]) {
    await saveModel(sparse(share), file)
    expect(await packModel(file)).toBe(await plainBytes(file))
    expect(existsSync(join(folder, 'packed'))).toBe(false)
  }
  writeFileSync(file, '')
  expect(await packModel(file)).toBe(0)
})

it('packs external data and counts it', async () => {
  const file = join(folder, 'model.onnx')
  await saveModel(sparse(0.9), file, { externalThresholdBytes: 0 })
  expect(await plainBytes(file)).toBeGreaterThan(256 * 256 * 4)
  expect(await packModel(file)).toBeLessThan(0.2 * 256 * 256 * 4)
  expect(readdirSync(join(folder, 'packed')).sort()).toEqual(['model.onnx.data.gz', 'model.onnx.gz'])
})
