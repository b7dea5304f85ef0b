// One model and recipe of the bench: builds, judges and measures it as a job does, and sends the rows of the table.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildVariant } from '#flyweight/compress/build.js'
import { isSearch } from '#flyweight/compress/recipe.js'
import { searchVariants } from '#flyweight/compress/search/search.js'
import { messageOf } from '#flyweight/errors.js'
import { feedSource } from '#flyweight/jobs/feed-source.js'
import { syntheticFeeds } from '#flyweight/runtime/sample-inputs.js'
import { joinRows } from '#flyweight/tensor/rows.js'
import { models } from './cases.mjs'
import { evaluationSamples, scoreVariant } from './prepare.mjs'

const MIN_FIDELITY = 0.9
const MOST_ROWS = 32

process.once('message', (cell) => {
  void measure(cell)
    .catch((error) => [{ recipe: cell.recipe, verdict: messageOf(error) }])
    .then((rows) => process.send(rows, () => process.disconnect()))
})

/** Rows of the table: one for a recipe; for `auto` one for the search and one for each variant that it keeps. */
async function measure(cell) {
  const { model, file, folder, signature } = cell
  const { task, batches, noiseRows, fidelityRows = Number.POSITIVE_INFINITY } = models[model]
  const samplesDir = task === undefined ? undefined : join(folder, 'calibration')
  const { samples, synthetic, feedsAt } = await feedSource({ file, signature, samplesDir, device: 'cpu', threads: 1 })
  const evaluation = task === undefined ? undefined : await evaluationSamples(folder, signature)
  const source = {
    digest: createHash('sha256').update(readFileSync(file)).digest('hex'),
    samples: noiseRows === undefined ? samples : noise(signature, noiseRows),
    ...(evaluation !== undefined && { evaluation: { ...evaluation, rows: Math.min(evaluation.rows, fidelityRows) } }),
    synthetic: synthetic && noiseRows === undefined,
    feedsAt,
    maxBatch: signature.batchable ? MOST_ROWS : 1,
  }
  const options = { device: 'cpu', threads: 1, batches: signature.batchable ? batches : [1], minFidelity: MIN_FIDELITY }
  const score = (variantFile) => scoreVariant(model, variantFile, { folder, evaluation })
  return isSearch(cell.recipe) ? search(cell, source, { options, score }) : [await build(cell, source, { options, score })]
}

/** Rows of noise, each from a seed of its own. */
function noise({ inputs }, rows) {
  return {
    rows,
    digest: 'noise',
    take: (from, count) => joinRows(Array.from({ length: count }, (_, row) => syntheticFeeds(inputs, { batch: 1, seed: from + row }))),
  }
}

async function build({ file, recipe, workDir, budgetMs }, { digest, ...source }, { options, score }) {
  const start = performance.now()
  let producedAt
  const {
    file: variantFile,
    report,
    sizeOnly,
  } = await buildVariant({
    ...source,
    ...options,
    sourceFile: file,
    sourceDigest: digest,
    request: recipe,
    profileBudgetMs: budgetMs,
    workDir,
    onProgress: (_, step) => {
      if (step.startsWith('comparing')) producedAt ??= performance.now()
    },
  })
  const seconds = ((producedAt ?? performance.now()) - start) / 1000
  const peakMiB = residentPeakMiB()
  const verdict = report.gate.admitted ? `admitted${sizeOnly ? ', size only' : ''}` : report.gate.reason
  return { recipe, seconds, peakMiB, ...figuresOf(report), ...(await score(variantFile)), verdict }
}

async function search({ file, recipe, workDir, searchSeconds }, source, { options, score }) {
  const { report, kept } = await searchVariants({ file, ...source }, { ...options, budgetSeconds: searchSeconds }, { workDir })
  const peakMiB = residentPeakMiB()
  const fates = new Map()
  for (const { fate } of report.candidates) fates.set(fate, (fates.get(fate) ?? 0) + 1)
  const faster = kept.filter(({ sizeOnly }) => !sizeOnly).length
  const rows = [
    {
      recipe,
      seconds: report.elapsedSeconds,
      peakMiB,
      verdict: `${faster === 0 ? 'nothing is faster than fp32 at every batch size' : `${faster} faster than fp32 at every batch size`}; candidates: ${Array.from(fates, ([fate, count]) => `${count} ${fate}`).join(', ')}`,
    },
  ]
  for (const { digest, file: variantFile, report: decisions, sizeOnly } of kept) {
    // The search measures what it keeps once more: the ratios of its report are the later ones.
    const { recipe: found, seconds, ratios } = report.candidates.find(({ variant }) => variant === digest)
    rows.push({
      recipe: `auto: ${abridged(found)}`,
      seconds,
      ...figuresOf(decisions),
      ratios: ratiosByBatch(ratios),
      ...(await score(variantFile)),
      verdict: sizeOnly ? 'kept for its size: answers only when pinned' : 'kept',
    })
  }
  return rows
}

function figuresOf({ variantBytes, sourceBytes, gate, fidelity }) {
  return {
    bytes: variantBytes,
    sourceBytes,
    sourceMs: Object.fromEntries(gate.latencies.map(({ batch, parentP50Ms }) => [batch, parentP50Ms])),
    ratios: ratiosByBatch(gate.latencies),
    fidelity: fidelity.score,
  }
}

/** A recipe with lists of nodes cut to their first entry and the number of the others. */
function abridged(recipe) {
  return recipe.replace(/=([^|,()]+)((?:\|[^|,()]+)+)/g, (_, first, others) => `=${first}|…${others.split('|').length - 1} more`)
}

function ratiosByBatch(latencies) {
  return Object.fromEntries(latencies.map(({ batch, ratio }) => [batch, ratio]))
}

function residentPeakMiB() {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? Number.NaN) / 1024
}
