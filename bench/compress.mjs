// `npm run bench:compress`: every model × recipe, each in a process of its own, as a Markdown table: seconds to
// produce, peak resident memory, bytes, latency against fp32 at batch 1, 8 and 32 (interleaved, median, one
// thread), fidelity, accuracy and the gate's verdict. Progress goes to stderr; a failure is a row, not the end.
import { fork } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { prepare } from '../scripts/setup.mjs'

const HELP = `npm run bench:compress -- [options]
  --models a,b    of: digits_cnn, digits_vit, ocr-recognizer, ocr-direction, ocr-detector, minilm, resnet18
  --recipes x,y   short strings, for every model; default: a list that suits each
  --quick         half a second a batch size in place of two
  --json FILE     also writes the figures there`

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    recipes: { type: 'string' },
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    help: { type: 'boolean' },
  },
})
if (flags.help) {
  console.log(HELP)
  process.exit(0)
}
await prepare()
const { models, recipesFor } = await import('./cases.mjs')
const { heapFlags, mallocEnvironment } = await import('../dist/runtime/malloc.js')

const chosen = flags.models?.split(',') ?? Object.keys(models)
const unknown = chosen.filter((name) => !Object.hasOwn(models, name))
if (unknown.length > 0) {
  console.error(`--models: got ${unknown.join(', ')}, expected some of ${Object.keys(models).join(', ')}`)
  process.exit(2)
}
const folder = mkdtempSync(join(tmpdir(), 'flyweight-bench-'))
const rows = []
try {
  for (const model of chosen) {
    for (const recipe of flags.recipes?.split(',') ?? recipesFor(model)) {
      const start = performance.now()
      const figures = await measured({ model, recipe })
      rows.push({ model, recipe, ...figures })
      console.error(`${model} ${recipe}: ${figures.error ?? figures.verdict} (${((performance.now() - start) / 1000).toFixed(0)} s)`)
    }
  }
} finally {
  rmSync(folder, { recursive: true })
}
for (const line of markdown(rows)) console.log(line)
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(rows, null, 2)}\n`)

/** Figures of one cell, or `error` with the reason why there are none. */
function measured(task) {
  const workDir = mkdtempSync(join(folder, 'cell-'))
  return new Promise((resolve) => {
    const child = fork(fileURLToPath(new URL('./compress-process.mjs', import.meta.url)), {
      env: { ...process.env, ...mallocEnvironment },
      execArgv: [...heapFlags],
    })
    let figures
    child.on('message', (message) => (figures = message))
    child.once('exit', (code, signal) => {
      rmSync(workDir, { recursive: true })
      resolve(figures ?? { error: `the process ended with ${signal ?? code}` })
    })
    child.send({ ...task, workDir, budgetMs: flags.quick ? 500 : 2000 })
  })
}

function markdown(all) {
  const ratios = (row) => [1, 8, 32].map((batch) => row.ratios?.[batch]?.toFixed(2) ?? '–').join(' / ')
  const cells = all.map((row) =>
    row.error === undefined
      ? [
          row.model,
          `\`${row.recipe}\``,
          row.seconds.toFixed(1),
          `${row.peakMiB.toFixed(0)} MiB`,
          `${(row.bytes / 1e6).toFixed(2)} MB`,
          (row.bytes / row.sourceBytes).toFixed(2),
          ratios(row),
          row.fidelity.toFixed(4),
          row.accuracy === undefined ? '–' : `${(100 * row.accuracy.variant).toFixed(1)} % (${(100 * row.accuracy.source).toFixed(1)} %)`,
          row.verdict,
        ]
      : [row.model, `\`${row.recipe}\``, ...Array(7).fill('–'), row.error],
  )
  const head = ['model', 'recipe', 'seconds', 'peak memory', 'bytes', '÷ fp32', 'time ÷ fp32 at batch 1 / 8 / 32', 'fidelity', 'accuracy (fp32)', 'verdict']
  return [head, head.map(() => '---'), ...cells].map((line) => `| ${line.map((cell) => String(cell).replaceAll('|', '\\|')).join(' | ')} |`)
}
