// Inputs to work on a model with: its samples, rows captured from its traffic, or noise of a shape it accepts.
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
  /** Rows captured from traffic. */
  capturedDir?: string | undefined
  device: string
  threads: number
}

/** Rows of noise that stand in for samples. */
const NOISE_ROWS = 8
/** Captured rows from which on a model is calibrated on them alone, and all its samples are left to judge by. */
const ENOUGH_CAPTURED = 64

export interface FeedSource {
  /** What to calibrate on: samples, captured rows, or noise for want of any. */
  samples: Samples
  /** What to judge on, where that is something else than `samples`. */
  evaluation: Samples | undefined
  /** True for noise: it measures speed well, and calibrates nothing. */
  synthetic: boolean
  feedsAt(batch: number): Record<string, Tensor>
  /** Per input: dims of one row, without the batch dimension where there is one. */
  rowDims: Record<string, readonly number[]>
}

/**
 * With enough captured rows, a variant is calibrated on what clients send and judged on the samples that the model's
 * owner chose; with fewer, or without samples, one kind serves for both. Speed is always measured on rows of the shape
 * that the source model was measured on.
 * @throws FlyweightError `invalid_input` for samples that do not fit, `invalid_model` when no noise does either
 */
export async function feedSource({ file, signature, samplesDir, capturedDir, device, threads }: FeedSourceOptions): Promise<FeedSource> {
  const supplied = samplesDir === undefined ? undefined : await loadSamples(samplesDir, signature)
  const captured = capturedDir === undefined ? undefined : await loadSamples(capturedDir, signature, { sortByShape: true })
  const apart = supplied !== undefined && captured !== undefined && captured.rows >= ENOUGH_CAPTURED
  const samples = apart ? captured : (supplied ?? captured)
  const row = supplied?.take(0, 1) ?? (await noiseRow(file, device, threads))
  const feedsAt = (batch: number) => tileRows(row, batch)
  return {
    samples: samples ?? { rows: signature.batchable ? NOISE_ROWS : 1, digest: 'noise', take: (_, count) => feedsAt(count) },
    evaluation: apart ? supplied : undefined,
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
