// Latency of several models against each other: their runs alternate (A, B, B, A, …) in one process, so
// that whatever else the machine does hits all of them alike, and the ratio of neighbours is steadier
// than either latency. Runs wherever it is called; job processes do, the gateway does not.
import { FlyweightError } from '../errors.js'
import type { BatchLatency } from '../measurements.js'
import type { Tensor } from '../tensor/tensor.js'
import { freeOutputs } from './free-outputs.js'
import { openSession, type Session } from './session.js'

export interface ProfileOptions {
  /** The first is the reference of the ratios. Names must differ. */
  subjects: readonly { name: string; file: string }[]
  feedsAt(batch: number): Readonly<Record<string, Tensor>>
  /** Ascending; `[1]` for a model that does not batch. */
  batches: readonly number[]
  device?: string
  threads?: number
  /** Measuring time per batch size, all subjects together. Default 4 s. */
  budgetMs?: number
  /** Rounds that are run even when they exceed the budget; default 5: a slow model deserves a median too. */
  leastRounds?: number
  onProgress?: (progress: { fraction: number; batch: number }) => void
  signal?: AbortSignal
}

export interface SubjectProfile {
  latencies: BatchLatency[]
  /** Per batch size: median over rounds of this subject's time ÷ the first subject's in the same round. */
  ratios: { batch: number; ratio: number }[]
  loadMs: number
}

/** Below this, the budget is used up before stopping early. */
const WANTED_ROUNDS = 101
const MOST_ROUNDS = 400
/** Rounds end early once the standard error of every median is below this share of it. */
const PRECISION = 0.01
/** The second is left out where the first took the whole budget: it is there for what settles in microseconds. */
const WARM_UP_ROUNDS = 2

/**
 * Measures p50 and p99 of one run per subject and batch size. At least `leastRounds`, then as the budget allows
 * until 101 rounds agree within 1 %, at most 400. Percentiles are by nearest rank: with fewer than 100 runs
 * p99 is the slowest run seen, which errs on the safe side for deadlines.
 * @throws FlyweightError `cancelled` when `signal` aborts; what the runtime throws.
 */
export async function profileInterleaved(options: ProfileOptions): Promise<Map<string, SubjectProfile>> {
  const { subjects, batches, device = 'cpu', threads = 1, onProgress } = options
  const profiles = new Map<string, SubjectProfile>()
  const sessions: Session[] = []
  try {
    for (const { name, file } of subjects) {
      const start = performance.now()
      sessions.push(await openSession(file, { device, threads }))
      profiles.set(name, { latencies: [], ratios: [], loadMs: performance.now() - start })
    }
    for (const [index, batch] of batches.entries()) {
      const times = await measureRounds(sessions, batch, options, (fraction) => onProgress?.({ fraction: (index + fraction) / batches.length, batch }))
      for (const [subject, { name }] of subjects.entries()) {
        const own = times[subject] ?? []
        const profile = profiles.get(name)
        profile?.latencies.push({ batch, p50Ms: quantile(own, 0.5), p99Ms: quantile(own, 0.99), runs: own.length })
        profile?.ratios.push({ batch, ratio: quantile(ratiosTo(times[0] ?? [], own), 0.5) })
      }
    }
  } finally {
    for (const session of sessions) await session.release()
  }
  return profiles
}

/** Milliseconds of every run: one list a session, all of equal length. */
async function measureRounds(
  sessions: readonly Session[],
  batch: number,
  { feedsAt, budgetMs = 4000, leastRounds = 5, signal }: ProfileOptions,
  onProgress: (fraction: number) => void,
): Promise<number[][]> {
  const feeds = feedsAt(batch)
  const times = sessions.map((): number[] => [])
  let start = performance.now()
  for (let round = 0; round === 0 || (round < WARM_UP_ROUNDS && performance.now() - start < budgetMs); round++) {
    for (const session of sessions) await timedRun(session, feeds, signal)
  }
  start = performance.now()
  for (let round = 1; round <= MOST_ROUNDS; round++) {
    // Every other round goes backwards, so that no subject always finds its neighbour's leavings in the caches.
    const order = round % 2 === 1 ? [...sessions.entries()] : [...sessions.entries()].reverse()
    for (const [index, session] of order) times[index]?.push(await timedRun(session, feeds, signal))
    const spent = (performance.now() - start) / budgetMs
    onProgress(Math.min(1, Math.max(spent, round / MOST_ROUNDS)))
    if (round >= leastRounds && spent >= 1) break
    if (round >= WANTED_ROUNDS && times.every(isPrecise)) break
  }
  onProgress(1)
  return times
}

async function timedRun(session: Session, feeds: Readonly<Record<string, Tensor>>, signal: AbortSignal | undefined): Promise<number> {
  if (signal?.aborted) throw new FlyweightError('cancelled', 'the measurement was cancelled')
  const start = performance.now()
  const outputs = await session.run(feeds)
  const elapsed = performance.now() - start
  // As the gateway does: a run that must map fresh memory for its outputs is another measurement.
  freeOutputs(outputs)
  return elapsed
}

function ratiosTo(reference: readonly number[], own: readonly number[]): number[] {
  return own.map((time, round) => time / (reference[round] ?? time))
}

/** Nearest rank: the smallest value with at least `q` of all values at or below it. */
function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN
}

/** Standard error of the median from the interquartile range: 1.2533 · (IQR ÷ 1.349) ÷ √n, exact for normal noise. */
function isPrecise(times: readonly number[]): boolean {
  const error = (0.929 * (quantile(times, 0.75) - quantile(times, 0.25))) / Math.sqrt(times.length)
  return error <= PRECISION * quantile(times, 0.5)
}
