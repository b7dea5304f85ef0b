// A model file to compress without a gateway: its digest, its signature, and the inputs to calibrate on and judge by.
import { readFile } from 'node:fs/promises'
import { FlyweightError } from '../errors.js'
import { feedSource, type FeedSource } from '../jobs/feed-source.js'
import { SAMPLE_FORMATS } from '../registry/samples.js'
import { inspectModel } from '../runtime/probation.js'
import { sha256 } from './output-file.js'

export interface FileSubject extends Pick<FeedSource, 'samples' | 'synthetic' | 'feedsAt'> {
  file: string
  digest: string
  maxBatch: number
  device: string
  threads: number
  batches: readonly number[]
  minFidelity: number
}

const BATCHES = [1, 8, 32]
const DEFAULT_MIN_FIDELITY = 0.9

/** @throws FlyweightError `invalid_model` for a file that cannot be read or run, `invalid_input` for samples that do not fit */
export async function openFile(file: string, flags: { samples?: string; minFidelity?: number }): Promise<FileSubject> {
  const content = await readFile(file).catch((cause: unknown) => {
    throw new FlyweightError('invalid_model', `cannot read ${file}`, { cause })
  })
  const { signature } = await inspectModel(file)
  const here = { device: 'cpu', threads: 1 }
  const { samples, synthetic, feedsAt } = await feedSource({ file, signature, samplesDir: flags.samples, ...here })
  if (flags.samples !== undefined && synthetic) throw new FlyweightError('invalid_input', `${flags.samples} has no samples: expected ${SAMPLE_FORMATS}`)
  return {
    ...here,
    file,
    digest: sha256(content),
    samples,
    synthetic,
    feedsAt,
    maxBatch: signature.batchable ? Math.max(...BATCHES) : 1,
    batches: signature.batchable ? BATCHES : [1],
    minFidelity: flags.minFidelity ?? DEFAULT_MIN_FIDELITY,
  }
}
