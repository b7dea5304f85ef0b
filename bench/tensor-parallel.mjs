// What computing layers in parts on two threads does to the time of one request: the whole on one thread, the whole on two
// threads of the runtime, and two parts on one thread each: `npm run bench:tensor -- [MODEL …] [--batch 1,8] [--seconds N]`.
// All take turns, run by run; medians. Times are those of the caller, messages included.
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { saveModel } from '#flyweight/onnx/load.js'
import { freeOutputs } from '#flyweight/runtime/free-outputs.js'
import { syntheticFeeds } from '#flyweight/runtime/sample-inputs.js'
import { openSession } from '#flyweight/runtime/session.js'
import { LocalHost } from '#flyweight/shard/local-host.js'
import { Pipeline } from '#flyweight/shard/pipeline.js'
import { shardModel } from '#flyweight/shard/shard.js'
import { buildTransformer } from './models/transformer.mjs'
import { buildWideMlp } from './models/wide-mlp.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { batch: { type: 'string', default: '1,8' }, seconds: { type: 'string', default: '10' } },
})
const [SECONDS, BATCHES] = [Number(values.seconds), values.batch.split(',').map(Number)]
const [PARTS, WARM_RUNS] = [2, 5]

const cases = {
  digits_vit: { file: fileURLToPath(new URL('../tests/fixtures/digits_vit.onnx', import.meta.url)) },
  minilm: { build: buildTransformer, dims: { 1: 64 } },
  'wide-mlp': { build: buildWideMlp },
}

const folder = await mkdtemp(join(tmpdir(), 'flyweight-bench-'))
console.log('| model | batch | ms, whole, one thread | whole, two threads | two parts | one thread / parts | two threads / parts | planned |')
console.log('| --- | --- | --- | --- | --- | --- | --- | --- |')
try {
  for (const name of positionals.length > 0 ? positionals : Object.keys(cases)) for (const batch of BATCHES) await measure(name, batch)
} finally {
  await rm(folder, { recursive: true })
}

async function measure(name, batch) {
  const { file = join(folder, `${name}.onnx`), build, dims = {} } = cases[name]
  if (!existsSync(file)) await saveModel(build(), file)
  const session = await openSession(file)
  const { inputs, outputs } = session
  await session.release()
  const feedsOf = (rows) => syntheticFeeds(inputs, { batch: rows, seed: 1, freeDim: (_, axis) => dims[axis] ?? 16 })
  const out = join(folder, `${name}-${batch}`)
  const devices = Array.from({ length: PARTS }, (_, part) => ({ name: `cpu:${part}` }))
  const plan = await shardModel(file, { folder: out, feedSets: [feedsOf(batch), feedsOf(batch + 1)], devices, strategy: 'tensor', microBatches: 1 })

  const parts = devices.map(({ name: device }) => new LocalHost({ device }))
  const wholes = [1, 2].map((threads) => new LocalHost({ device: 'cpu:9', threads }))
  await Promise.all(wholes.map((host) => host.load('whole', file)))
  const stages = plan.stages.map((stage, index) => ({ ...stage, key: `stage-${index}`, host: parts.find((host) => host.name === stage.device) }))
  for (const { key, host, file: stage } of stages) await host.load(key, join(out, stage))
  const names = (specs) => specs.map((spec) => spec.name)
  const pipeline = new Pipeline({ stages, inputs: names(inputs), outputs: names(outputs), batchable: true })

  const sides = [...wholes.map((host) => (feeds) => host.run('whole', feeds)), (feeds) => pipeline.run(feeds)].map((run) => ({ run, times: [] }))
  for (let spent = 0, round = 0; spent < SECONDS * 1000 || round < 2 * WARM_RUNS; round++) {
    for (const { run, times } of sides) {
      const feeds = feedsOf(batch)
      const begin = performance.now()
      freeOutputs((await run(feeds)).outputs)
      const ms = performance.now() - begin
      if (round >= WARM_RUNS) times.push(ms)
      spent += ms
    }
  }
  const [one, two, cut] = sides.map(({ times }) => median(times))
  const cells = [name, batch, ...[one, two, cut].map((ms) => ms.toFixed(2)), (one / cut).toFixed(2), (two / cut).toFixed(2), plan.latencyMs.toFixed(2)]
  console.log(`| ${cells.join(' | ')} |`)
  pipeline.close()
  await Promise.all([...parts, ...wholes].map((host) => host.close()))
}

function median(sorted) {
  return sorted.sort((a, b) => a - b)[sorted.length >> 1]
}
