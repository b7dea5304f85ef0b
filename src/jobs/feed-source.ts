// Inputs to measure a model with: its samples where it has some, else noise of a shape it accepts.
import type { Signature } from '../registry/model.js'
import { loadSamples } from '../registry/samples.js'
import { findRow } from '../runtime/batch-proof.js'
import type { Samples } from '../compress/samples.js'
import { tileRows } from '../runtime/sample-inputs.js'
import { openSession } from '../runtime/session.js'
import type { Tensor } from '../tensor/tensor.js'

export interface FeedSourceOptions {
  file: string
  signature: Signature
  samplesDir: string | undefined
  device: string
  threads: number
}

/** Rows of noise that stand in for samples. */
const NOISE_ROWS = 8

export interface FeedSource {
  /** The model's samples, or noise for want of any. */
  samples: Samples
  /** True for noise: it measures speed well, and calibrates nothing. */
  synthetic: boolean
  feedsAt(batch: number): Record<string, Tensor>
  /** Per input: dims of one row, without the batch dimension where there is one. */
  rowDims: Record<string, readonly number[]>
}

/** @throws FlyweightError `invalid_input` for samples that do not fit, `invalid_model` when no noise does either. */
export async function feedSource({ file, signature, samplesDir, device, threads }: FeedSourceOptions): Promise<FeedSource> {
  const samples = samplesDir === undefined ? undefined : await loadSamples(samplesDir, signature)
  const row = samples?.take(0, 1) ?? (await noiseRow(file, device, threads))
  const feedsAt = (batch: number) => tileRows(row, batch)
  return {
    samples: samples ?? { rows: signature.batchable ? NOISE_ROWS : 1, digest: 'noise', take: (_, count) => feedsAt(count) },
    synthetic: samples === undefined,
    feedsAt,
    rowDims: Object.fromEntries(Object.entries(row).map(([name, { dims }]) => [name, signature.batchable ? dims.slice(1) : dims])),
  }
}

async function noiseRow(file: string, device: string, threads: number): Promise<Record<string, Tensor>> {
  const session = await openSession(file, { device, threads })
  try {
    return await findRow(session)
  } finally {
    await session.release()
  }
}
