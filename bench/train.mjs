// Steps of training a second, batch 64, one thread: `npm run bench:train`. Networks take turns, run by run, so that what
// else the machine does falls on all of them alike; medians are reported.
import { parseArgs } from 'node:util'
import { lossOf } from '#flyweight/train/losses/table.js'
import { optimizerOf } from '#flyweight/train/optimizers/table.js'
import { train } from '#flyweight/train/trainer.js'
import { trainingCases } from './training-cases.mjs'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '10' } } })
const SECONDS = Number(values.seconds)
const BATCH = 64

const cases = await trainingCases()

const running = cases.map((one) => ({ ...one, rates: [], seconds: 0, news: start(one) }))
// The first news comes with the step graph built, the second with its first run, which allocates.
for (const one of running) for (let warm = 0; warm < 2; warm++) one.last = (await one.news.next()).value
while (running.some(({ seconds }) => seconds < SECONDS)) {
  for (const one of running) {
    if (one.seconds >= SECONDS) continue
    const begin = performance.now()
    const { value } = await one.news.next()
    const seconds = (performance.now() - begin) / 1000
    one.rates.push((value.step - one.last.step) / seconds)
    one.seconds += seconds
    one.last = value
  }
}
for (const one of running) await one.news.return()

console.log('| network | steps a second, median | runs | loss at the end |\n| --- | --- | --- | --- |')
for (const { name, rates, last } of running) {
  console.log(`| ${name} | ${median(rates).toFixed(1)} | ${rates.length} | ${(last.losses.at(-1) ?? NaN).toFixed(3)} |`)
}

function start({ model, data, optimizer, learningRate }) {
  const loss = lossOf({ kind: 'cross-entropy' })
  return train({
    model,
    data,
    loss: (emit, tensors) => loss(emit, { prediction: 'logits', target: 'labels', tensors }),
    optimizer: optimizerOf(optimizer),
    learningRate: () => learningRate,
    batchSize: BATCH,
    steps: 1_000_000,
    seed: 1,
    threads: 1,
  })
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
}
