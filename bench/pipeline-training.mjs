// What a pipeline of stages is worth to training, on one machine: steps a second, the bytes that stages keep for their
// backward passes, and the most memory of the process while it trains: `npm run bench:pipeline-training`. Each way trains
// in a process of its own, so that none has the memory of another; they take turns, and figures are medians over rounds.
// `--network 2` measures one network alone, `--stages`, `--micro`, `--batch`, `--seconds` and `--rounds` as they say.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openPipelineEngine } from '#flyweight/train/pipeline/pipeline-engine.js'
import { threadStages } from '#flyweight/train/pipeline/thread-stages.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { train } from '#flyweight/train/trainer.js'
import { trainingCases } from './training-cases.mjs'

const number = (text) => ({ type: 'string', default: String(text) })
const { values } = parseArgs({
  options: { network: { type: 'string' }, stages: number(2), micro: number(8), batch: number(128), seconds: number(5), rounds: number(3) },
})
const [STAGES, MICRO, BATCH, SECONDS, ROUNDS] = ['stages', 'micro', 'batch', 'seconds', 'rounds'].map((name) => Number(values[name]))

const pipeline = (schedule, recompute) => ({ parallel: { pipeline: STAGES, microBatches: MICRO, schedule, recompute } })
const ways = [
  { name: 'one process', settings: {} },
  { name: `one process, ${MICRO} parts`, settings: { parts: MICRO } },
  { name: 'GPipe', settings: pipeline('gpipe', false) },
  { name: 'GPipe, recomputed', settings: pipeline('gpipe', true) },
  { name: '1F1B', settings: pipeline('1f1b', false) },
  { name: '1F1B, recomputed', settings: pipeline('1f1b', true) },
]

if (process.send === undefined) await compare()
else process.once('message', (task) => void measure(task).then((figures) => process.send(figures, () => process.exit(0))))

async function compare() {
  const cases = await trainingCases()
  console.log(`Batch ${BATCH}, ${STAGES} stages of one thread, ${MICRO} micro-batches.\n`)
  console.log('| network | way | steps a second | kept by stages, MB | memory, MB |\n| --- | --- | --- | --- | --- |')
  for (const [index, { name }] of cases.entries()) {
    if (values.network !== undefined && Number(values.network) !== index) continue
    const figures = ways.map(() => [])
    for (let round = 0; round < ROUNDS; round++) for (const way of ways.keys()) figures[way].push(await inProcess({ index, way }))
    for (const [way, rounds] of figures.entries()) {
      const of = (figure) => median(rounds.map((one) => one[figure]))
      const stash = rounds[0].stash.length === 0 ? '–' : rounds[0].stash.map((bytes) => megabytes(bytes)).join(' + ')
      console.log(`| ${name} | ${ways[way].name} | ${of('rate').toFixed(2)} | ${stash} | ${megabytes(of('memory'))} |`)
    }
  }
}

async function inProcess(task) {
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2))
  child.send(task)
  const [figures] = await once(child, 'message')
  await once(child, 'exit')
  return figures
}

async function measure({ index, way }) {
  const { model, data, optimizer, learningRate } = (await trainingCases())[index]
  const settings = completeSettings({ batchSize: BATCH, optimizer, learningRate, ...ways[way].settings })
  const step = { settings, prediction: 'logits', labelled: true }
  let engine
  const openEngine = (form) => (engine = openPipelineEngine({ model, form, step, stages: threadStages({ stages: STAGES, replicas: 1 }), threads: 1 }))
  const news = train({
    model,
    data,
    ...stepOptions(step),
    learningRate: () => settings.learningRate,
    batchSize: BATCH,
    parts: settings.parts,
    steps: 1_000_000,
    newsEvery: 4,
    seed: 1,
    threads: 1,
    ...(settings.parallel.pipeline > 1 ? { openEngine } : {}),
  })
  for (let warm = 0; warm < 3; warm++) await news.next()
  const memory = watchMemory()
  let [done, last] = [0, (await news.next()).value.step]
  const begin = performance.now()
  while (performance.now() - begin < 1000 * SECONDS) {
    const { step: at } = (await news.next()).value
    done += at - last
    last = at
  }
  const rate = (done / (performance.now() - begin)) * 1000
  const figures = { rate, memory: memory.end(), stash: engine?.peakStashBytes ?? [] }
  await news.return()
  return figures
}

/** The most that the process has in memory, looked at often. */
function watchMemory() {
  let [most, going] = [process.memoryUsage.rss(), true]
  void (async () => {
    while (going) {
      most = Math.max(most, process.memoryUsage.rss())
      await pause(5)
    }
  })()
  return { end: () => ((going = false), Math.max(most, process.memoryUsage.rss())) }
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0)
}
