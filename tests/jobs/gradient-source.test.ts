// Pruning by gradients, on a network whose halves matter differently: the digits model itself.
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { buildVariant } from '#flyweight/compress/build.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { sampleGradients } from '#flyweight/jobs/gradient-source.js'
import { copyRows } from '#flyweight/tensor/rows.js'
import { readNpz } from '#flyweight/tensor/npz.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

let folder: string
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'gradients-'))))
afterEach(() => rm(folder, { recursive: true }))

const arrays = readNpz(readFileSync('tests/fixtures/digits_cnn.npz'))
const x = arrays.get('in/x') as Tensor
const labels = Int32Array.from(arrays.get('labels')?.data as BigInt64Array, Number)
const samples = (labelled: boolean): Samples => ({
  rows: 256,
  digest: 'digits',
  labels: labelled ? labels : undefined,
  take: (from, count) => ({ x: copyRows(x, from, from + count) }),
})

async function accuracyAfter(request: string, calibration: Samples): Promise<number> {
  const workDir = await mkdtemp(join(folder, 'build-'))
  const { report } = await buildVariant({
    sourceFile: 'tests/fixtures/digits_cnn.onnx',
    sourceDigest: 'digits_cnn',
    request,
    samples: calibration,
    evaluation: samples(true),
    synthetic: false,
    maxBatch: 32,
    feedsAt: (batch) => ({ x: copyRows(x, 0, batch) }),
    batches: [],
    minFidelity: 0,
    device: 'cpu',
    threads: 1,
    workDir,
    gradients: sampleGradients,
  })
  return report.fidelity.accuracy?.variant ?? NaN
}

it('keeps more right by gradients than by chance, with labels and without', async () => {
  const by = async (method: string, labelled = true) => accuracyAfter(`prune-weights(method=${method},ratio=0.9,scope=global)`, samples(labelled))
  const random = await by('random')
  expect(await by('gradient')).toBeGreaterThan(random)
  expect(await by('gradient', false)).toBeGreaterThan(random)
})

it('serves pruning of channels, too', async () => {
  expect(await accuracyAfter('prune-channels(importance=gradient,ratio=0.3)+recover', samples(true))).toBeGreaterThan(0.95)
})
