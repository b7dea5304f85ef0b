// One model and recipe of the bench: builds, judges and measures it as a compress job does, and sends the figures.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildVariant } from '#flyweight/compress/build.js'
import { messageOf } from '#flyweight/errors.js'
import { feedSource } from '#flyweight/jobs/feed-source.js'
import { inspectModel } from '#flyweight/runtime/probation.js'
import { models } from './cases.mjs'
import { evaluationSamples, scoreVariant } from './prepare.mjs'

const MIN_FIDELITY = 0.9
const MOST_ROWS = 32

process.once('message', (task) => {
  void measure(task)
    .catch((error) => ({ error: messageOf(error) }))
    .then((figures) => process.send(figures, () => process.disconnect()))
})

async function measure({ model, file, folder, recipe, workDir, budgetMs }) {
  const { task, batches, fidelityRows = Number.POSITIVE_INFINITY } = models[model]
  const { signature } = await inspectModel(file)
  const samplesDir = task === undefined ? undefined : join(folder, 'calibration')
  const { samples, synthetic, feedsAt } = await feedSource({ file, signature, samplesDir, device: 'cpu', threads: 1 })
  const evaluation = task === undefined ? undefined : await evaluationSamples(folder, signature)
  const start = performance.now()
  let producedAt
  const {
    file: variantFile,
    report,
    sizeOnly,
  } = await buildVariant({
    sourceFile: file,
    sourceDigest: createHash('sha256').update(readFileSync(file)).digest('hex'),
    request: recipe,
    samples,
    ...(evaluation !== undefined && { evaluation: { ...evaluation, rows: Math.min(evaluation.rows, fidelityRows) } }),
    synthetic,
    feedsAt,
    maxBatch: signature.batchable ? MOST_ROWS : 1,
    device: 'cpu',
    threads: 1,
    batches: signature.batchable ? batches : [1],
    minFidelity: MIN_FIDELITY,
    profileBudgetMs: budgetMs,
    workDir,
    onProgress: (_, step) => {
      if (step.startsWith('comparing')) producedAt ??= performance.now()
    },
  })
  const seconds = ((producedAt ?? performance.now()) - start) / 1000
  const peakMiB = residentPeakMiB()
  return {
    seconds,
    peakMiB,
    bytes: report.variantBytes,
    sourceBytes: report.sourceBytes,
    sourceMs: Object.fromEntries(report.gate.latencies.map(({ batch, parentP50Ms }) => [batch, parentP50Ms])),
    ratios: Object.fromEntries(report.gate.latencies.map(({ batch, ratio }) => [batch, ratio])),
    fidelity: report.fidelity.score,
    ...(await scoreVariant(model, variantFile, { folder, evaluation })),
    kernels: report.kernels,
    verdict: report.gate.admitted ? `admitted${sizeOnly ? ', size only' : ''}` : report.gate.reason,
  }
}

function residentPeakMiB() {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? Number.NaN) / 1024
}
