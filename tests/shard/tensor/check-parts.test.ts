// Parts that compute something else are found out.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { saveModel } from '#flyweight/onnx/load.js'
import { checkParts } from '#flyweight/shard/tensor/check-parts.js'
import { noise } from '../../onnx/running.js'
import type { Model } from '../stages.js'
import { network, type BlockShape } from './networks.js'
import { inParts } from './parts.js'

const shape: BlockShape = { kind: 'feed-forward', inner: 8, layer: 'MatMul', activation: 'Gelu', bias: true, norm: 'none', residual: true }
const feedSets = [1, 2].map((rows) => ({ x: noise([rows, 3, 6], rows) }))
let folder: string
let model: Model
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-parts-'))
  model = network(6, [shape])
  await saveModel(model, join(folder, 'whole.onnx'))
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('checkParts', () => {
  it('passes what is right, and refuses a weight that is missing', async () => {
    const { stages } = await inParts(model, feedSets, [1, 1])
    const files = stages.map(({ inputs }, index) => ({ file: `part-${index}.onnx`, inputs }))
    for (const [index, stage] of stages.entries()) await saveModel(stage.model, join(folder, files[index]!.file))
    await checkParts(join(folder, 'whole.onnx'), files, { folder, feedSets })
    const bias = stages[1]!.model.graph.initializer.find(({ dims }) => dims.length === 1)!
    bias.rawData = new Uint8Array(bias.rawData.length)
    await saveModel(stages[1]!.model, join(folder, files[1]!.file))
    await expect(checkParts(join(folder, 'whole.onnx'), files, { folder, feedSets })).rejects.toMatchObject({
      code: 'invalid_plan',
      message: expect.stringMatching(/^in parts the model gives "y" with a difference of 0\.\d+ of its largest value, expected at most 0.01/),
    })
  })
})
