// The profile job: what one model file costs on this machine, at each batch size. Runs in a job process.
import type { Profile } from '../measurements.js'
import type { Signature } from '../registry/model.js'
import { measureFootprint } from '../runtime/footprint.js'
import { profileInterleaved } from '../runtime/profiler.js'
import { feedSource } from './feed-source.js'
import type { JobContext } from './job-context.js'

export interface ProfilePayload {
  file: string
  signature: Signature
  /** Folder of sample inputs; noise is used without. */
  samplesDir?: string
  batches: readonly number[]
  device: string
  threads: number
  /** Fingerprint to record in the profile. */
  machine: string
  /** Measuring time per batch size. */
  budgetMs?: number
}

export interface ProfileResult {
  profile: Profile
}

export async function runProfileJob(payload: ProfilePayload, { report, signal }: JobContext): Promise<ProfileResult> {
  const { file, signature, samplesDir, device, threads, machine, budgetMs } = payload
  const batches = signature.batchable ? [...payload.batches].sort((a, b) => a - b) : [1]
  report({ fraction: 0, step: 'reading samples' })
  const { feedsAt, rowDims } = await feedSource({ file, signature, samplesDir, device, threads })
  report({ fraction: 0.05, step: 'measuring memory' })
  const { residentBytes, loadMs } = await measureFootprint({ file, feeds: feedsAt(batches.at(-1) ?? 1), device, threads })
  const start = performance.now()
  const profiles = await profileInterleaved({
    subjects: [{ name: 'model', file }],
    feedsAt,
    batches,
    device,
    threads,
    signal,
    ...(budgetMs === undefined ? {} : { budgetMs }),
    onProgress: ({ fraction, batch }) => {
      const etaS = fraction > 0 ? ((performance.now() - start) / 1000) * (1 / fraction - 1) : undefined
      report({ fraction: 0.1 + 0.9 * fraction, step: `measuring batch ${batch}`, ...(etaS === undefined ? {} : { etaS }) })
    },
  })
  const latencies = profiles.get('model')?.latencies ?? []
  return { profile: { machine, device, rowDims, latencies, residentBytes, loadMs, measuredAt: new Date().toISOString() } }
}
