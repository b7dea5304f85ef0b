// What mixed precision costs in accuracy: the same trainings in each precision, judged on 2,000 digits:
// `npm run bench:precision`.
import { parseArgs } from 'node:util'
import { evaluate } from '#flyweight/train/evaluate.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { runTraining } from '#flyweight/train/training.js'
import { mnistDigits } from './mnist.mjs'

const { values } = parseArgs({ options: { seeds: { type: 'string', default: '3' }, epochs: { type: 'string', default: '4' } } })
const SEEDS = Number(values.seeds)
const EPOCHS = Number(values.epochs)
const OUTPUT = 'logits'
const NETWORKS = {
  'perceptron 784-128-64-10': { kind: 'mlp', hidden: [128, 64] },
  'CNN of 8, 16, 24 channels': { kind: 'cnn', channels: [8, 16, 24], hidden: [] },
}
const PRECISIONS = {
  float32: { kind: 'float32' },
  'mixed, products': { kind: 'mixed', level: 'products' },
  'mixed, graph': { kind: 'mixed', level: 'graph' },
  'mixed, graph, scale of 2^40 at first': { kind: 'mixed', level: 'graph', lossScale: { initial: 2 ** 40 } },
}

const { training, heldOut } = await mnistDigits()
const loss = lossOf({ kind: 'cross-entropy' })
const emitLoss = (emit, tensors) => loss(emit, { prediction: OUTPUT, target: 'labels', tensors })
console.log(`${EPOCHS} epochs, ${SEEDS} seeds\n\n| network | precision | accuracy, mean | least to most | scale at the end |\n| --- | --- | --- | --- | --- |`)
for (const [name, network] of Object.entries(NETWORKS)) {
  for (const [precision, options] of Object.entries(PRECISIONS)) {
    const accuracies = []
    const scales = new Set()
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { accuracy, scale } = await trained(network, options, seed)
      accuracies.push(accuracy)
      scales.add(scale)
    }
    const mean = accuracies.reduce((sum, one) => sum + one, 0) / SEEDS
    const range = `${percent(Math.min(...accuracies))} to ${percent(Math.max(...accuracies))}`
    console.log(`| ${name} | ${precision} | ${percent(mean)} | ${range} | ${[...scales].join(', ')} |`)
  }
}

/** Accuracy on the held-out digits, and the loss scale after the last step. */
async function trained(network, precision, seed) {
  let scale = '–'
  const { model } = await runTraining({
    model: buildNetwork(network, { input: { name: 'x', dims: [1, 28, 28] }, output: { name: OUTPUT, classes: 10 } }, seed),
    output: OUTPUT,
    data: training,
    settings: completeSettings({ epochs: EPOCHS, learningRate: 0.004, schedule: { kind: 'one-cycle' }, precision, seed }),
    threads: 1,
    onCheckpoint: ({ training: { vectors } }) => {
      if (vectors.loss_scale) scale = `2^${Math.log2(vectors.loss_scale[0])}`
    },
  })
  const { accuracy } = await evaluate({ model, data: heldOut, loss: emitLoss, batchSize: 250, output: OUTPUT })
  return { accuracy, scale }
}

function percent(share) {
  return `${(100 * share).toFixed(2)} %`
}
