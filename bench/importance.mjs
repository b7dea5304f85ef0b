// What pruning by gradients is worth: accuracy of the sample digits model, or of the file that is named, after pruning by
// gradient, magnitude and chance, weight by weight and by channels, also with what is left fitted or trained again, at once
// or gradually; and what time is left with half the channels: `npm run bench:importance`.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildVariant } from '#flyweight/compress/build.js'
import { sampleGradients } from '#flyweight/jobs/gradient-source.js'
import { tuneOnSamples } from '#flyweight/jobs/tuning.js'
import { mnistDigits } from './mnist.mjs'

const CALIBRATION = 1024
const sourceFile = process.argv[2] ?? fileURLToPath(new URL('../models/digits/1/model.onnx', import.meta.url))
const kinds = [
  {
    title: 'single weights',
    ratios: [0.5, 0.7, 0.8, 0.9, 0.95],
    recipes: {
      gradient: 'prune-weights(method=gradient,scope=global',
      magnitude: 'prune-weights(method=magnitude,scope=global',
      random: 'prune-weights(method=random,scope=global',
    },
  },
  {
    title: 'channels',
    ratios: [0.1, 0.2, 0.3, 0.4, 0.5],
    recipes: { gradient: 'prune-channels(importance=gradient', magnitude: 'prune-channels(importance=l2', random: 'prune-channels(importance=random' },
  },
  {
    title: 'channels, then `recover`',
    ratios: [0.3, 0.5, 0.7],
    recipes: { gradient: 'prune-channels(importance=gradient', magnitude: 'prune-channels(importance=l2', random: 'prune-channels(importance=random' },
    followedBy: '+recover',
  },
  {
    title: 'channels, then `recover(by=distillation)`',
    ratios: [0.3, 0.5, 0.7],
    recipes: { magnitude: 'prune-channels(importance=l2', random: 'prune-channels(importance=random' },
    followedBy: '+recover(by=distillation)',
  },
  {
    title: 'single weights, trained',
    ratios: [0.8, 0.9, 0.95],
    recipes: {
      'gradual, 8 × 5 epochs': 'prune-weights(scope=global,schedule=gradual',
      'at once, then 40 epochs': 'prune-weights(scope=global,schedule=once',
    },
    followedBy: { 'at once, then 40 epochs': '+recover(by=distillation,epochs=40)' },
  },
]
const TIMED = 'prune-channels(ratio=0.5)+recover(by=distillation)'

const { training, heldOut } = await mnistDigits()
const calibration = await samplesOf(training, CALIBRATION)
const evaluation = await samplesOf(heldOut, heldOut.rows)
const folder = await mkdtemp(join(tmpdir(), 'importance-'))
try {
  for (const { title, ratios, recipes, followedBy = '' } of kinds) {
    console.log(`\n| ${title} | ${ratios.map((ratio) => `${100 * ratio} %`).join(' | ')} |\n| --- |${ratios.map(() => ' --- |').join('')}`)
    for (const [by, recipe] of Object.entries(recipes)) {
      const row = []
      for (const ratio of ratios) {
        const report = await reportOf(`${recipe},ratio=${ratio})${typeof followedBy === 'string' ? followedBy : (followedBy[by] ?? '')}`)
        row.push(report.fidelity.accuracy.variant)
      }
      console.log(`| ${by} | ${row.map(percent).join(' | ')} |`)
    }
  }
  const { fidelity, gate } = await reportOf(TIMED, [1, 8, 32])
  console.log(`\n| recipe | fp32 | variant | fp32's time ÷ variant's, batch 1 / 8 / 32 |\n| --- | --- | --- | --- |`)
  const times = gate.latencies.map(({ ratio }) => (1 / ratio).toFixed(2)).join(' / ')
  console.log(`| \`${TIMED}\` | ${percent(fidelity.accuracy.source)} | ${percent(fidelity.accuracy.variant)} | ${times} |`)
} finally {
  await rm(folder, { recursive: true })
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`
}

async function reportOf(request, batches = []) {
  const { report } = await buildVariant({
    sourceFile,
    sourceDigest: 'digits',
    request,
    samples: calibration,
    evaluation,
    synthetic: false,
    maxBatch: 32,
    feedsAt: (batch) => calibration.take(0, batch),
    batches,
    minFidelity: 0,
    device: 'cpu',
    threads: 1,
    workDir: await mkdtemp(join(folder, 'build-')),
    gradients: sampleGradients,
    tune: tuneOnSamples,
  })
  return report
}

async function samplesOf(data, rows) {
  const { labels } = await data.read(
    Array.from({ length: rows }, (_, row) => row),
    0,
  )
  const all = await data.read(
    Array.from({ length: rows }, (_, row) => row),
    0,
  )
  const size = all.x.data.length / rows
  return {
    rows,
    digest: `mnist ${rows}`,
    labels: Int32Array.from(labels.data, Number),
    take: (from, count) => ({ x: { ...all.x, dims: [count, 1, 28, 28], data: all.x.data.slice(from * size, (from + count) * size) } }),
  }
}
