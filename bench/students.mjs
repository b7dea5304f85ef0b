// What kinds of students learn from the digits teacher: some labels, its answers to all images, and in some arms what lies
// inside it. One row a student, each judged on 2,000 digits: `node bench/students.mjs`.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { makeStudent } from '#flyweight/jobs/students.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { evaluate } from '#flyweight/train/evaluate.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { completeStudent } from '#flyweight/train/students.js'
import { runTraining } from '#flyweight/train/training.js'
import { mnistDigits, withLabelsOf } from './mnist.mjs'

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '3' }, steps: { type: 'string', default: '1500' }, labels: { type: 'string', default: '500' } },
})
const [SEEDS, STEPS, LABELS] = [values.seeds, values.steps, values.labels].map(Number)
const OUTPUT = 'logits'
const INSIDE = { teacher: 'block3.relu', student: 'block3.relu' }
const cnn = { kind: 'cnn', channels: [8, 16, 24] }
const arms = [
  { name: 'cnn:8,16,24', spec: cnn },
  { name: 'cnn:8,16,24, features', spec: cnn, features: [INSIDE] },
  { name: 'mlp:64', spec: { kind: 'mlp', hidden: [64] } },
  { name: 'transformer:width=32,depth=2,patch=7', spec: { kind: 'transformer', width: 32, depth: 2, patch: 7 } },
  { name: 'shrink:width=0.5', spec: { kind: 'shrink', width: 0.5 } },
  { name: 'shrink:width=0.25', spec: { kind: 'shrink', width: 0.25 } },
  { name: 'shrink:width=0.25, features', spec: { kind: 'shrink', width: 0.25 }, features: [INSIDE] },
]

const { training, heldOut } = await mnistDigits()
const teacher = await loadModel(fileURLToPath(new URL('../models/digits/1/model.onnx', import.meta.url)))
const data = withLabelsOf(training, LABELS)
const { x } = await training.read([0, 1, 2, 3, 4, 5, 6, 7], 0)
const samples = {
  rows: 8,
  digest: '',
  take: (from, count) => ({ x: { ...x, dims: [count, 1, 28, 28], data: x.data.slice(from * 784, (from + count) * 784) } }),
}
console.log(`teacher on ${training.rows} images, ${LABELS} labels, ${STEPS} steps of 64 rows, ${SEEDS} seeds\n`)
console.log('| student | parameters | accuracy, mean | least to most |\n| --- | --- | --- | --- |')
for (const { name, spec, features = [] } of arms) {
  const found = []
  let parameters = 0
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = await trained(spec, features, seed)
    parameters = result.parameters
    found.push(await accuracyOf(result.model))
  }
  const mean = found.reduce((sum, one) => sum + one, 0) / found.length
  console.log(`| ${name} | ${parameters.toLocaleString('en')} | ${percent(mean)} | ${percent(Math.min(...found))} to ${percent(Math.max(...found))} |`)
}

async function trained(spec, features, seed) {
  const settings = completeSettings({
    epochs: (STEPS * 64) / (data.rows * 0.9),
    learningRate: 0.005,
    schedule: { kind: 'one-cycle' },
    augment: { shift: 2 },
    holdOut: 0.1,
    seed,
    loss: { kind: 'distillation', features },
  })
  const student = await makeStudent(completeStudent(spec), { teacher, samples, batchable: true, threads: 1 })
  return runTraining({ model: teacher, output: OUTPUT, data, student, settings, threads: 1 })
}

async function accuracyOf(model) {
  const loss = lossOf({ kind: 'cross-entropy' })
  const emitLoss = (emit, tensors) => loss(emit, { prediction: OUTPUT, target: 'labels', tensors })
  return (await evaluate({ model, data: heldOut, loss: emitLoss, batchSize: 250, output: OUTPUT, threads: 1 })).accuracy
}

function percent(share) {
  return `${(100 * share).toFixed(2)} %`
}
