// `npm run load`: the gateway, a naive server and a bare echo on the same machine in the same run, in
// interleaved rounds, with the same row in JSON and in binary at 1, 16 and 64 connections. Takes about eight
// minutes; writes load/report.json and prints a table. `--quick` takes about half a minute; its figures are
// rougher. `--model NAME` measures that model alone.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { prepare, root } from '../scripts/setup.mjs'

await prepare()
const { bareRequest, gatewayRequest, sampleRow } = await import('./bodies.mjs')
const { artifactOf, buildVariant, quiet, readMetrics, variantsOf } = await import('./gateway-state.mjs')
const { killAll, startDriver, startGateway, startServer } = await import('./processes.mjs')
const { printReport, verdicts } = await import('./report.mjs')

const { values: flags } = parseArgs({ options: { quick: { type: 'boolean', default: false }, model: { type: 'string', multiple: true } } })
const { quick } = flags
// Cells are longer where a request is: with 64 in flight on a slow model, the first answers come late.
const plan = quick
  ? { connections: [1, 64], models: { digits: { json: { rounds: 1, seconds: 1 }, binary: { rounds: 1, seconds: 1 } } } }
  : {
      connections: [1, 16, 64],
      models: {
        digits: { json: { rounds: 3, seconds: 1 }, binary: { rounds: 3, seconds: 1 } },
        'ocr-recognizer': { json: { rounds: 1, seconds: 3 }, binary: { rounds: 3, seconds: 6 } },
      },
    }
if (flags.model !== undefined) plan.models = Object.fromEntries(Object.entries(plan.models).filter(([name]) => flags.model.includes(name)))
const modelsDirectory = join(root, 'models')

process.on('exit', killAll)
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

const dataDirectory = mkdtempSync(join(tmpdir(), 'flyweight-load-'))
try {
  const gateway = await startGateway({ dataDirectory, modelsDirectory })
  const driver = startDriver()
  console.log('waiting for the first profiles…')
  await quiet(gateway.url)
  const models = []
  for (const model of Object.keys(plan.models)) models.push(await measureModel(model, { gateway, driver }))
  const report = { at: new Date().toISOString(), machine: machine(), plan: { ...plan, quick }, models }
  report.verdicts = verdicts(report)
  writeFileSync(join(root, 'load', 'report.json'), `${JSON.stringify(report, null, 2)}\n`)
  printReport(report)
  await driver.stop()
  await gateway.stop()
  process.exitCode = report.verdicts.every(({ met }) => met) ? 0 : 1
} finally {
  rmSync(dataDirectory, { recursive: true, force: true })
}

/** All cells of one model. Ways to ask: the gateway's own choice and, where it has other variants, the source pinned. */
async function measureModel(model, { gateway, driver }) {
  const sample = sampleRow(modelsDirectory, model)
  const routed = model === 'ocr-recognizer'
  if (routed) console.log(`building the int8 variant of ${model}…`)
  const variants = routed ? await buildVariant(gateway.url, model, 'int8') : await variantsOf(gateway.url, model)
  const source = variants.find((variant) => variant.source)
  // Half a second, whatever the load: the source model holds that for few connections, the router trades fidelity for it at many.
  const sla = routed ? { latencyMs: 500, minFidelity: 0.9 } : undefined
  const file = join(dataDirectory, `${model}.naive.onnx`)
  writeFileSync(file, await artifactOf(gateway.url, source))
  const naive = await startNaive({ file, sample, driver })
  const echo = await startServer('echo-server.mjs', [])
  const subjects = [
    { name: 'gateway', url: gateway.url, request: (encoding) => gatewayRequest({ model, ...sample, sla }, encoding) },
    ...(routed
      ? [{ name: 'gateway, source only', url: gateway.url, request: (encoding) => gatewayRequest({ model, ...sample, variant: source.name }, encoding) }]
      : []),
    { name: 'naive', url: naive.url, request: (encoding) => bareRequest(sample, encoding) },
    { name: 'echo', url: echo.url, request: (encoding) => bareRequest(sample, encoding) },
  ]
  const cells = []
  for (const [encoding, { rounds, seconds }] of Object.entries(plan.models[model])) {
    for (const connections of plan.connections) {
      cells.push(...(await measureCells({ model, subjects, cell: { encoding, connections, seconds }, rounds, driver, gateway })))
      console.log(
        `${model} ${encoding} ${connections}: ${cells
          .slice(-subjects.length)
          .map(({ subject, requestsPerSecond }) => `${subject} ${Math.round(requestsPerSecond)}/s`)
          .join(', ')}`,
      )
    }
  }
  await naive.stop()
  await echo.stop()
  const profiles = variants.map(({ name, state, fidelity, sizeOnly, profile }) => ({
    name,
    state,
    fidelity: fidelity.score,
    sizeOnly,
    latencies: profile?.latencies,
  }))
  return { model, rowBytes: sample.row.byteLength, naiveThreads: naive.threads, variants: profiles, cells }
}

/** One encoding and number of connections: rounds A, B, C, A, B, C… and the median of each subject's rounds. */
async function measureCells({ model, subjects, cell, rounds, driver, gateway }) {
  const figures = new Map(subjects.map(({ name }) => [name, []]))
  for (const subject of subjects) await drive(driver, subject, { ...cell, seconds: 0.5 })
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) {
      const ours = subject.url === gateway.url
      const before = ours ? await readMetrics(gateway.url, model) : undefined
      const measured = await drive(driver, subject, cell)
      const after = ours ? await readMetrics(gateway.url, model) : undefined
      figures
        .get(subject.name)
        .push({ ...measured, ...(ours && { loopDelayP99Ms: after.loopDelayP99Ms, variants: difference(before.answered, after.answered) }) })
    }
  }
  const { encoding, connections } = cell
  return subjects.map(({ name }) => ({ subject: name, encoding, connections, ...summary(figures.get(name)) }))
}

/** Drives one cell, then waits for one more answer: what the load left queued must not burden the next subject. */
async function drive(driver, { url, request }, { encoding, connections, seconds }) {
  const { path, headers, body } = request(encoding)
  const figures = await driver.drive({ url: url + path, headers, bodyBase64: body.toString('base64'), connections, seconds })
  const last = await fetch(url + path, { method: 'POST', headers, body })
  await last.arrayBuffer()
  return figures
}

function summary(rounds) {
  const median = (field) => rounds.map((round) => round[field]).sort((a, b) => a - b)[Math.floor(rounds.length / 2)]
  const variants = {}
  for (const round of rounds) for (const [name, count] of Object.entries(round.variants ?? {})) variants[name] = (variants[name] ?? 0) + count
  return {
    requestsPerSecond: median('requestsPerSecond'),
    p50Ms: median('p50Ms'),
    p99Ms: median('p99Ms'),
    failures: rounds.reduce((sum, { failures }) => sum + failures, 0),
    // The worst round, not the median: the promise is about every one.
    ...(rounds[0].loopDelayP99Ms !== undefined && { loopDelayP99Ms: Math.max(...rounds.map(({ loopDelayP99Ms }) => loopDelayP99Ms)) }),
    ...(Object.keys(variants).length > 0 && { variants }),
  }
}

function difference(before, after) {
  return Object.fromEntries(
    Object.entries(after)
      .map(([name, count]) => [name, count - (before[name] ?? 0)])
      .filter(([, count]) => count > 0),
  )
}

/** The baseline with the runtime's default threads or with one, whichever serves more rows at 16 connections. */
async function startNaive({ file, sample, driver }) {
  const tried = []
  for (const threads of ['default', '1']) {
    const server = await startServer('naive-server.mjs', [file, JSON.stringify(sample.dims), threads])
    const subject = { url: server.url, request: (encoding) => bareRequest(sample, encoding) }
    await drive(driver, subject, { encoding: 'binary', connections: 16, seconds: 0.5 })
    const { requestsPerSecond } = await drive(driver, subject, { encoding: 'binary', connections: 16, seconds: 1 })
    tried.push({ ...server, threads, requestsPerSecond })
  }
  const [best, other] = tried.sort((a, b) => b.requestsPerSecond - a.requestsPerSecond)
  await other.stop()
  return best
}

function machine() {
  const { version } = JSON.parse(readFileSync(join(root, 'node_modules', 'onnxruntime-node', 'package.json'), 'utf8'))
  return { cpu: cpus()[0]?.model, cores: cpus().length, node: process.versions.node, runtime: `onnxruntime-node ${version}` }
}
