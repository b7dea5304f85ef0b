// What ranks on one machine are worth: samples a second of two ranks of one thread over one process of one thread, each
// rank with the rows that the one process has: `npm run bench:parallel`. Both take turns, run by run; medians.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { loadModel } from '#flyweight/onnx/load.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { parallelEngine } from '#flyweight/train/parallel/parallel-engine.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { train } from '#flyweight/train/trainer.js'
import { mnistDigits } from './mnist.mjs'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '10' }, settings: { type: 'string', default: '{}' } } })
const SECONDS = Number(values.seconds)
const [BATCH, RANKS] = [64, 2]

const { training: images } = await mnistDigits()
const rows = { rows: images.rows, read: async (chosen, position) => flat(await images.read(chosen, position)) }
const mlp = () => buildNetwork({ kind: 'mlp', hidden: [512, 256] }, { input: { name: 'x', dims: [784] }, output: { name: 'logits', classes: 10 } }, 1)
const cnn = () =>
  buildNetwork({ kind: 'cnn', channels: [16, 32, 64], hidden: [] }, { input: { name: 'x', dims: [1, 28, 28] }, output: { name: 'logits', classes: 10 } }, 1)
const vit = () => loadModel(fileURLToPath(new URL('../tests/fixtures/digits_vit.onnx', import.meta.url)))
const cases = [
  { name: 'MLP 784-512-256-10, SGD', model: mlp(), data: rows, settings: { optimizer: { kind: 'sgd' }, learningRate: 0.1 } },
  { name: 'MLP 784-512-256-10, AdamW', model: mlp(), data: rows, settings: { learningRate: 0.001 } },
  { name: 'CNN of 16, 32, 64 channels, AdamW', model: cnn(), data: images, settings: { learningRate: 0.001 } },
  { name: 'ViT of tests/fixtures, AdamW', model: await vit(), data: images, settings: { learningRate: 0.0001 } },
]

console.log('| network | rows a second, one process | two ranks | ratio |\n| --- | --- | --- | --- |')
for (const one of cases) {
  const [single, ranks] = [start(one, 1), start(one, RANKS)]
  for (const side of [single, ranks]) for (let warm = 0; warm < 2; warm++) side.last = (await side.news.next()).value
  for (let spent = 0; spent < SECONDS; ) for (const side of [single, ranks]) spent += await advance(side)
  for (const side of [single, ranks]) await side.news.return()
  const [alone, together] = [median(single.rates), median(ranks.rates)]
  console.log(`| ${one.name} | ${alone.toFixed(0)} | ${together.toFixed(0)} | ${(together / alone).toFixed(2)} |`)
}

function start({ model, data, settings: given }, count) {
  const settings = completeSettings({ batchSize: BATCH * count, ...given, parallel: { data: count, ...JSON.parse(count > 1 ? values.settings : '{}') } })
  const step = { settings, prediction: 'logits', labelled: true }
  const news = train({
    model,
    data,
    ...stepOptions(step),
    learningRate: () => settings.learningRate,
    batchSize: settings.batchSize,
    steps: 1_000_000,
    seed: 1,
    threads: 1,
    ...parallelEngine({ model, step, threads: count }),
  })
  return { news, rates: [], count }
}

async function advance(side) {
  const begin = performance.now()
  const { value } = await side.news.next()
  const seconds = (performance.now() - begin) / 1000
  side.rates.push(((value.step - side.last.step) * BATCH * side.count) / seconds)
  side.last = value
  return seconds
}

function flat({ x, labels }) {
  return { x: { ...x, dims: [x.dims[0], 784] }, labels }
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN
}
