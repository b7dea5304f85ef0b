// `npm run bench:compress`: every model × recipe, each in a process of its own, as Markdown tables: seconds to
// produce, peak resident memory, bytes, latency against fp32 (interleaved, median, one thread), fidelity, accuracy and
// the gate's verdict. Progress goes to stderr; a failure is a row, not the end, and Ctrl-C prints what there is.
import { fork } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { prepare } from '../scripts/setup.mjs'
import { installAssets } from './assets.mjs'
import { modelTable, replaceSection } from './table.mjs'

const HELP = `npm run bench:compress -- [options]
  --models a,b     of: digits_cnn, digits_vit, ocr-recognizer, ocr-direction, ocr-detector, silero-vad, minilm, resnet18
  --recipes x;y    short strings, for every model; default: a list that suits each
  --quick          less measuring, and fewer inputs to judge on
  --json FILE      also writes the figures there
  --markdown FILE  also writes each table into FILE, between <!-- bench MODEL --> and <!-- end -->`

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    recipes: { type: 'string' },
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    markdown: { type: 'string' },
    help: { type: 'boolean' },
  },
})
if (flags.help) {
  console.log(HELP)
  process.exit(0)
}
await prepare()
await installAssets()
const { models } = await import('./cases.mjs')
const { prepareModel } = await import('./prepare.mjs')
const { heapFlags, mallocEnvironment } = await import('#flyweight/runtime/malloc.js')
const { runtimeVersion } = await import('#flyweight/runtime/session.js')

const chosen = flags.models?.split(',') ?? Object.keys(models)
const unknown = chosen.filter((name) => !Object.hasOwn(models, name))
if (unknown.length > 0) {
  console.error(`--models: got ${unknown.join(', ')}, expected some of ${Object.keys(models).join(', ')}`)
  process.exit(2)
}
const recipesFor = (model) => flags.recipes?.split(';') ?? models[model].recipes
// Before the measuring, which takes minutes: is there a place for every table?
if (flags.markdown !== undefined) for (const name of ['machine', ...chosen]) replaceSection(readFileSync(flags.markdown, 'utf8'), name, [])

const machine = `${cpus()[0]?.model}, ${cpus().length} cores; Node ${process.versions.node}, ${runtimeVersion}; one thread${flags.quick ? '; `--quick`' : ''}.`
let done = 0
const cells = chosen.reduce((sum, model) => sum + recipesFor(model).length, 0)
const begin = performance.now()
const temporary = mkdtempSync(join(tmpdir(), 'flyweight-bench-'))
const measuredModels = []
// The process in progress gets the signal too, and its row is dropped.
let interrupted = false
process.once('SIGINT', () => (interrupted = true))
try {
  for (const model of chosen) {
    const measured = await measureModel(model)
    measuredModels.push(measured)
    if (interrupted) break
    // At once: the whole list takes a quarter of an hour.
    write([measured])
  }
} finally {
  rmSync(temporary, { recursive: true })
}
progress(interrupted ? 'interrupted' : 'done')
console.log(machine)
for (const { model, table } of measuredModels) console.log(`\n### ${model}\n\n${table.join('\n')}`)
if (flags.json !== undefined) {
  const figures = { machine, models: measuredModels.map(({ model, accuracy, rows }) => ({ model, accuracy, rows })) }
  writeFileSync(flags.json, `${JSON.stringify(figures, null, 2)}\n`)
}
process.exitCode = interrupted ? 130 : 0

/** Puts the tables into the document that --markdown names, and the machine they were measured on. */
function write(measured) {
  if (flags.markdown === undefined) return
  const sections = [{ model: 'machine', table: [machine] }, ...measured]
  writeFileSync(
    flags.markdown,
    sections.reduce((document, { model, table }) => replaceSection(document, model, table), readFileSync(flags.markdown, 'utf8')),
  )
}

async function measureModel(model) {
  const folder = join(temporary, model)
  mkdirSync(folder)
  progress(`${model}: making its inputs`)
  const { file, signature, accuracy } = await prepareModel(model, folder, { quick: flags.quick })
  if (accuracy !== undefined) progress(`${model}: fp32 has ${(100 * accuracy).toFixed(1)} % ${models[model].task.metric}`)
  const rows = []
  for (const recipe of recipesFor(model)) {
    const measured = await measure({ model, file, folder, signature, recipe })
    if (interrupted) break
    rows.push(...measured)
    done += 1
    progress(`${done} of ${cells}: ${model} ${recipe}: ${measured[0].verdict}`)
  }
  rmSync(folder, { recursive: true })
  const { batches, task } = models[model]
  return { model, accuracy, rows, table: modelTable({ batches, metric: task?.metric, accuracy, rows }) }
}

/** Rows of one cell; where the process fails, one that says so. */
function measure(cell) {
  const workDir = mkdtempSync(join(temporary, 'cell-'))
  return new Promise((resolve) => {
    const child = fork(fileURLToPath(new URL('./compress-process.mjs', import.meta.url)), {
      env: { ...process.env, ...mallocEnvironment },
      execArgv: [...heapFlags],
    })
    let rows
    child.on('message', (message) => (rows = message))
    child.once('exit', (code, signal) => {
      rmSync(workDir, { recursive: true })
      resolve(rows ?? [{ recipe: cell.recipe, verdict: `the process ended with ${signal ?? code}` }])
    })
    child.send({ ...cell, workDir, budgetMs: flags.quick ? 400 : 1000, searchSeconds: models[cell.model].searchSeconds / (flags.quick ? 2 : 1) })
  })
}

function progress(text) {
  console.error(`${((performance.now() - begin) / 1000).toFixed(0).padStart(4)} s  ${text}`)
}
