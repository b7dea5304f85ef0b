// How much memory compressing a large model takes: `node scripts/memory.mjs [megabytes] [recipe…]` builds a network of
// products, runs each recipe on it in a process of its own (load, passes, save), and prints the highest resident size
// (VmHWM of /proc/self/status, so Linux only) beside the size of the model. `--json` prints it for programs.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel, saveModel } from '#flyweight/onnx/load.js'
import { mallocEnvironment } from '#flyweight/runtime/malloc.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import { passNamed } from '#flyweight/compress/passes/table.js'

const WIDTH = 2048
const MB = 1e6
const RECIPES = ['int8-dynamic', 'int8-static', 'int4', 'fp16', 'prune-weights', 'prune-weights(method=wanda)', 'prune-weights+int8-static']

const [command, ...rest] = process.argv.slice(2).filter((argument) => argument !== '--json')
if (command === 'make') await make(rest[0], Number(rest[1]))
else if (command === 'build') await build(rest[0], rest[1])
else study(Number(command ?? 400), rest.length === 0 ? RECIPES : rest)

/** One process a step: memory that one took must not count for the next. */
function study(megabytes, recipes) {
  const folder = mkdtempSync(join(tmpdir(), 'flyweight-memory-'))
  const run = (...args) => execFileSync(process.execPath, [import.meta.filename, ...args], { env: { ...process.env, ...mallocEnvironment }, encoding: 'utf8' })
  try {
    const file = join(folder, 'source.onnx')
    run('make', file, String(megabytes))
    const bytes = statSync(file).size
    const rows = recipes.map((recipe) => ({ recipe, bytes, ...JSON.parse(run('build', file, recipe)) }))
    if (process.argv.includes('--json')) console.log(JSON.stringify(rows))
    else
      console.table(
        rows.map(({ recipe, idle, peak }) => ({ recipe, 'model MB': bytes / MB, 'idle MB': idle / MB, 'peak MB': peak / MB, 'peak ÷ model': peak / bytes })),
      )
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function make(file, megabytes) {
  const layers = Math.max(1, Math.round((megabytes * MB) / (WIDTH * WIDTH * 4)))
  let state = 1
  const weights = Array.from({ length: layers }, (_, layer) => {
    const values = new Float32Array(WIDTH * WIDTH)
    for (let i = 0; i < values.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      values[i] = (state / 2 ** 31 - 1) / Math.sqrt(WIDTH / 3)
    }
    return tensorProto(`w${layer}`, 'float32', [WIDTH, WIDTH], values)
  })
  const input = (layer) => (layer === 0 ? 'x' : `r${layer - 1}`)
  const nodes = weights.flatMap(({ name }, layer) => [
    node('MatMul', [input(layer), name], [`m${layer}`]),
    node('Relu', [`m${layer}`], [layer === layers - 1 ? 'y' : `r${layer}`]),
  ])
  const [inputs, outputs] = [[valueInfo('x', 'float32', ['n', WIDTH])], [valueInfo('y', 'float32', ['n', WIDTH])]]
  await saveModel(model({ inputs, outputs, nodes, initializers: weights }), file)
}

/** What a build does before it measures anything. */
async function build(file, recipe) {
  const idle = resident('VmHWM')
  const workDir = mkdtempSync(`${file}-`)
  let current = await loadModel(file)
  const samples = { rows: 8, digest: 'sines', take: (from, count) => ({ x: { dtype: 'float32', dims: [count, WIDTH], data: sines(from, count) } }) }
  for (const step of parseRecipe(recipe).recipe) {
    const context = { loadOriginal: () => loadModel(file), device: 'cpu', samples, maxBatch: 4, threads: 1, workDir }
    current = (await passNamed(step.pass).run(current, step, context)).model
  }
  await saveModel(current, join(workDir, 'model.onnx'))
  console.log(JSON.stringify({ idle, peak: resident('VmHWM') }))
}

function sines(from, count) {
  return Float32Array.from({ length: count * WIDTH }, (_, i) => Math.sin((from * WIDTH + i) ** 1.1))
}

function resident(key) {
  return Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024
}
