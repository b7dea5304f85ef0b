// What distillation gains: students trained on a few labels alone, and with a teacher's answers to many more images; and
// with all labels, each of both. Several seeds, each judged on 2,000 digits: `npm run bench:distill`.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { loadModel } from '#flyweight/onnx/load.js'
import { subset } from '#flyweight/train/dataset.js'
import { evaluate } from '#flyweight/train/evaluate.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { runTraining } from '#flyweight/train/training.js'
import { mnistDigits, withLabelsOf } from './mnist.mjs'

const { values } = parseArgs({ options: { seeds: { type: 'string', default: '5' }, labels: { type: 'string', default: '500' } } })
const SEEDS = Number(values.seeds)
const LABELS = Number(values.labels)
const OUTPUT = 'logits'
const STUDENT = { kind: 'cnn', channels: [8, 16, 24], hidden: [] }
/** As many steps for each, so that none is trained longer. */
const STEPS = 1500

const { training, heldOut } = await mnistDigits()
const teacher = await loadModel(fileURLToPath(new URL('../models/digits/1/model.onnx', import.meta.url)))
const few = subset(
  training,
  Array.from({ length: LABELS }, (_, row) => row),
)
const arms = [
  { name: `${LABELS} labels`, data: few, taught: false },
  { name: `${LABELS} labels, teacher on ${training.rows} images`, data: withLabelsOf(training, LABELS), taught: true },
  { name: `${training.rows} labels`, data: training, taught: false },
  { name: `${training.rows} labels, teacher on the same`, data: training, taught: true },
]
console.log(`teacher: ${percent(await accuracyOf(teacher))} of ${heldOut.rows} held-out digits right\n`)
const results = arms.map(() => [])
let parameters = 0
for (let seed = 1; seed <= SEEDS; seed++) {
  for (const [index, arm] of arms.entries()) {
    const { model, parameters: count } = await trained(arm, seed)
    parameters = count
    results[index].push(await accuracyOf(model))
    console.error(`seed ${seed}: ${arm.name}: ${percent(results[index].at(-1))}`)
  }
}
console.log(`student: ${parameters} parameters, ${STEPS} steps of 64 rows, ${SEEDS} seeds\n`)
console.log('| trained on | accuracy, mean | least to most |\n| --- | --- | --- |')
for (const [index, { name }] of arms.entries()) {
  const all = results[index]
  console.log(`| ${name} | ${percent(all.reduce((sum, one) => sum + one, 0) / all.length)} | ${percent(Math.min(...all))} to ${percent(Math.max(...all))} |`)
}

async function trained({ data, taught }, seed) {
  const rows = data.rows * 0.9
  const settings = completeSettings({
    epochs: (STEPS * 64) / rows,
    learningRate: 0.005,
    schedule: { kind: 'one-cycle' },
    augment: { shift: 2 },
    holdOut: 0.1,
    seed,
    ...(taught ? { loss: { kind: 'distillation' } } : {}),
  })
  const student = buildNetwork(STUDENT, { input: { name: 'x', dims: [1, 28, 28] }, output: { name: OUTPUT, classes: 10 } }, seed)
  return runTraining({ model: taught ? teacher : student, output: OUTPUT, data, ...(taught ? { student: STUDENT } : {}), settings, threads: 2 })
}

async function accuracyOf(model) {
  const loss = lossOf({ kind: 'cross-entropy' })
  const emitLoss = (emit, tensors) => loss(emit, { prediction: OUTPUT, target: 'labels', tensors })
  return (await evaluate({ model, data: heldOut, loss: emitLoss, batchSize: 250, output: OUTPUT, threads: 2 })).accuracy
}

function percent(share) {
  return `${(100 * share).toFixed(2)} %`
}
