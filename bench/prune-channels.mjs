// What `prune-channels` saves on networks of each kind of coupling: multiply-accumulates left, as the pass predicts
// them, and time left, measured interleaved at batch 8 on one thread.
//   node bench/prune-channels.mjs [ratio] [networks…]
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pruneChannels } from '../dist/compress/passes/prune-channels.js'
import { parseRecipe } from '../dist/compress/recipe.js'
import { saveModel } from '../dist/onnx/load.js'
import { inspectModel } from '../dist/runtime/probation.js'
import { profileInterleaved } from '../dist/runtime/profiler.js'
import { syntheticFeeds } from '../dist/runtime/sample-inputs.js'
import { coupledNetworks } from './models/coupled.mjs'

const BATCH = 8
/** Tokens of a sequence. */
const LENGTH = 128
const [ratio = '0.5', ...chosen] = process.argv.slice(2)
const [step] = parseRecipe(`prune-channels(ratio=${ratio})`).recipe
const workDir = await mkdtemp(join(tmpdir(), 'flyweight-bench-'))

console.log(`| network | multiply-accumulates left | time left at batch ${BATCH} | times as fast |\n|---|---|---|---|`)
try {
  for (const name of chosen.length > 0 ? chosen : Object.keys(coupledNetworks)) {
    const source = coupledNetworks[name]()
    const files = [join(workDir, 'source.onnx'), join(workDir, 'pruned.onnx')]
    await saveModel(source, files[0])
    const { signature } = await inspectModel(files[0])
    const feedsAt = (batch) => syntheticFeeds(signature.inputs, { batch, seed: 1, freeDim: LENGTH })
    const samples = { rows: 4, digest: 'noise', take: (_, count) => feedsAt(count) }
    const { model, summary } = await pruneChannels.run(source, step, { original: source, device: 'cpu', samples, maxBatch: BATCH, threads: 1, workDir })
    await saveModel(model, files[1])
    const profiles = await profileInterleaved({
      subjects: [
        { name: 'source', file: files[0] },
        { name: 'pruned', file: files[1] },
      ],
      feedsAt,
      batches: [BATCH],
    })
    const [{ ratio: left }] = profiles.get('pruned').ratios
    const [, macs] = /\((\d+(?:\.\d+)?) %\)/.exec(summary)
    console.log(`| ${name} | ${macs} % | ${(100 * left).toFixed(1)} % | ${(1 / left).toFixed(2)} |`)
  }
} finally {
  await rm(workDir, { recursive: true })
}
