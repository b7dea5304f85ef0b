// What ranks on one machine are worth: samples a second of two ranks of one thread over one process of one thread, each
// rank with the rows that the one process has: `npm run bench:parallel`. Both take turns, run by run; medians.
import { parseArgs } from 'node:util'
import { parallelEngine } from '#flyweight/train/parallel/parallel-engine.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { train } from '#flyweight/train/trainer.js'
import { trainingCases } from './training-cases.mjs'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '10' }, settings: { type: 'string', default: '{}' } } })
const SECONDS = Number(values.seconds)
const [BATCH, RANKS] = [64, 2]

const cases = await trainingCases()

console.log('| network | rows a second, one process | two ranks | ratio |\n| --- | --- | --- | --- |')
for (const one of cases) {
  const [single, ranks] = [start(one, 1), start(one, RANKS)]
  for (const side of [single, ranks]) for (let warm = 0; warm < 2; warm++) side.last = (await side.news.next()).value
  for (let spent = 0; spent < SECONDS; ) for (const side of [single, ranks]) spent += await advance(side)
  for (const side of [single, ranks]) await side.news.return()
  const [alone, together] = [median(single.rates), median(ranks.rates)]
  console.log(`| ${one.name} | ${alone.toFixed(0)} | ${together.toFixed(0)} | ${(together / alone).toFixed(2)} |`)
}

function start({ model, data, optimizer, learningRate }, count) {
  const settings = completeSettings({
    batchSize: BATCH * count,
    optimizer,
    learningRate,
    parallel: { data: count, ...JSON.parse(count > 1 ? values.settings : '{}') },
  })
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

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN
}
