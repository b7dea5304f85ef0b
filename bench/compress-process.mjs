// One model and recipe of the bench: builds, judges and measures it as a compress job does, and sends the figures.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { buildVariant } from '../dist/compress/build.js'
import { messageOf } from '../dist/errors.js'
import { feedSource } from '../dist/jobs/feed-source.js'
import { inspectModel } from '../dist/runtime/probation.js'
import { models } from './cases.mjs'

process.once('message', (task) => {
  void measure(task)
    .catch((error) => ({ error: messageOf(error) }))
    .then((figures) => process.send(figures, () => process.disconnect()))
})

async function measure({ model, recipe, workDir, budgetMs }) {
  const { file, samples, batches } = await models[model](workDir)
  const { signature } = await inspectModel(file)
  const { samples: rows, synthetic, feedsAt } = await feedSource({ file, signature, samplesDir: samples, device: 'cpu', threads: 1 })
  const start = performance.now()
  let producedAt
  const { report, sizeOnly } = await buildVariant({
    sourceFile: file,
    sourceDigest: createHash('sha256').update(readFileSync(file)).digest('hex'),
    request: recipe,
    samples: rows,
    synthetic,
    feedsAt,
    maxBatch: signature.batchable ? 32 : 1,
    device: 'cpu',
    threads: 1,
    batches: signature.batchable ? batches : [1],
    minFidelity: 0.9,
    profileBudgetMs: budgetMs,
    workDir,
    onProgress: (fraction, step) => {
      if (step.startsWith('comparing')) producedAt ??= performance.now()
    },
  })
  return {
    seconds: ((producedAt ?? performance.now()) - start) / 1000,
    peakMiB: Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? Number.NaN) / 1024,
    bytes: report.variantBytes,
    sourceBytes: report.sourceBytes,
    ratios: Object.fromEntries(report.gate.latencies.map(({ batch, ratio }) => [batch, ratio])),
    fidelity: report.fidelity.score,
    accuracy: report.fidelity.accuracy,
    kernels: report.kernels,
    verdict: report.gate.admitted ? `admitted${sizeOnly ? ', size only' : ''}` : report.gate.reason,
  }
}
