// What ranks on one machine are worth: samples a second of two ranks of one thread over one process of one thread, each
// rank with the rows that the one process has: `npm run bench:parallel`. Beside them two such trainings at once that have
// nothing to do with each other: what the machine's cores give where nothing is exchanged. All take turns, run by run; medians.
import { on, once } from 'node:events'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { parallelEngine } from '#flyweight/train/parallel/parallel-engine.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { train } from '#flyweight/train/trainer.js'
import { trainingCases } from './training-cases.mjs'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '10' }, settings: { type: 'string', default: '{}' } } })
const SECONDS = Number(values.seconds)
const [BATCH, RANKS] = [64, 2]

const cases = await trainingCases()
if (isMainThread) await compare()
else await answer(cases[workerData])

async function compare() {
  console.log('| network | rows a second, one process | two ranks | ratio | two trainings apart |\n| --- | --- | --- | --- | --- |')
  for (const [index, one] of cases.entries()) {
    const sides = [here(one, 1), here(one, RANKS), apart(index)]
    for (const side of sides) for (let warm = 0; warm < 2; warm++) await side.run()
    for (let spent = 0; spent < SECONDS; ) {
      for (const side of sides) {
        const begin = performance.now()
        const rows = await side.run()
        const seconds = (performance.now() - begin) / 1000
        side.rates.push(rows / seconds)
        spent += seconds
      }
    }
    for (const side of sides) await side.end()
    const [alone, ranks, free] = sides.map(({ rates }) => median(rates))
    console.log(`| ${one.name} | ${alone.toFixed(0)} | ${ranks.toFixed(0)} | ${(ranks / alone).toFixed(2)} | ${(free / alone).toFixed(2)} |`)
  }
}

/** Its `run` resolves to the rows that it trained on. */
function here({ model, data, optimizer, learningRate }, count) {
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
  let last = 0
  return {
    rates: [],
    run: async () => {
      const { step: done } = (await news.next()).value
      const rows = (done - last) * BATCH * count
      last = done
      return rows
    },
    end: () => news.return(),
  }
}

function apart(index) {
  const workers = Array.from({ length: RANKS }, () => new Worker(new URL(import.meta.url), { workerData: index }))
  return {
    rates: [],
    run: async () => {
      for (const worker of workers) worker.postMessage('run')
      const done = await Promise.all(workers.map((worker) => once(worker, 'message')))
      return done.reduce((sum, [rows]) => sum + rows, 0)
    },
    end: async () => {
      for (const worker of workers) worker.postMessage('end')
      await Promise.all(workers.map((worker) => once(worker, 'exit')))
    },
  }
}

async function answer(one) {
  const side = here(one, 1)
  for await (const [message] of on(parentPort, 'message')) {
    if (message === 'end') break
    parentPort.postMessage(await side.run())
  }
  await side.end()
  parentPort.close()
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN
}
