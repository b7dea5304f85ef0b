// Predicts how long a variant takes at a batch size and input shape: seeded by the profile job,
// corrected by every run. Pure bookkeeping; it decides nothing.
import { LRUCache } from 'lru-cache'
import type { Profile } from '../measurements.js'

/** Milliseconds a run. */
export interface Prediction {
  p50Ms: number
  p99Ms: number
}

/** One (batch, latency) point of a curve over batch sizes. */
interface Point extends Prediction {
  batch: number
}

/** With 128 runs the nearest-rank p99 is the second slowest: one hiccup of the machine does not condemn a variant. */
const WINDOW = 128
/** Runs at a batch size outweigh the profile once there are so many, or a few that took a while: a lane among busy others is slower than it was alone. */
const TRUSTED = { runs: 16, fewRuns: 4, ms: 1000 }
/** From so many runs on, p99 leaves out the slowest of a small window. */
const ROBUST = 8
/** Inputs of free shape could otherwise make a curve a request, for ever. */
const MOST_CURVES = 10_000
/** A variant judged too slow is not run and could never recover: after this long without a run
 *  the profile speaks again, and what was seen before is forgotten: it was another load that made it slow. */
const STALE_MS = 10_000

class Window {
  readonly #runs: number[] = []
  #next = 0

  add(ms: number): void {
    this.#runs[this.#next] = ms
    this.#next = (this.#next + 1) % WINDOW
  }

  get size(): number {
    return this.#runs.length
  }

  get isTrusted(): boolean {
    if (this.size >= TRUSTED.runs) return true
    return this.size >= TRUSTED.fewRuns && this.#runs.reduce((sum, ms) => sum + ms, 0) >= TRUSTED.ms
  }

  prediction(): Prediction {
    const sorted = [...this.#runs].sort((a, b) => a - b)
    const slowest = sorted.length >= ROBUST && sorted.length < WINDOW ? sorted.slice(0, -1) : sorted
    return { p50Ms: quantile(sorted, 0.5), p99Ms: quantile(slowest, 0.99) }
  }
}

interface Curve {
  seed: readonly Point[]
  windows: Map<number, Window>
  /** Rebuilt every few observations; sorting a window at every run would cost more than it tells. */
  points: readonly Point[]
  observedSince: number
  lastRunAt: number
}

export class LatencyBook {
  readonly #curves = new LRUCache<string, Curve>({ max: MOST_CURVES })
  readonly #now: () => number

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Starts a variant's curve for the profiled shape; runs already observed are kept. */
  seed(variant: string, bucket: string, profile: Profile): void {
    const curve = this.#curve(variant, bucket)
    curve.seed = profile.latencies.map(({ batch, p50Ms, p99Ms }) => ({ batch, p50Ms, p99Ms }))
    curve.points = pointsOf(curve)
  }

  /**
   * Predicted latency of `batch` rows, or undefined if nothing is known. A shape never seen is
   * predicted from a known one in proportion to `elementsPerRow`.
   */
  predict(variant: string, bucket: Bucket, batch: number): Prediction | undefined {
    const own = this.#points(variant, bucket.key)
    if (own.length > 0) return interpolate(own, batch)
    if (bucket.reference === undefined) return undefined
    const { reference } = bucket
    const known = this.#points(variant, reference.key)
    if (known.length === 0) return undefined
    const { p50Ms, p99Ms } = interpolate(known, batch)
    const scale = bucket.elementsPerRow / reference.elementsPerRow
    return { p50Ms: p50Ms * scale, p99Ms: p99Ms * scale }
  }

  /** Records one run. Odd batch sizes count for the next power of two, scaled along the curve. */
  observe(variant: string, bucket: string, batch: number, ms: number): void {
    const curve = this.#curve(variant, bucket)
    if (this.#isStale(curve)) {
      curve.windows.clear()
      curve.points = pointsOf(curve)
    }
    const slot = 2 ** Math.ceil(Math.log2(batch))
    const scale = curve.points.length === 0 ? 1 : interpolate(curve.points, slot).p50Ms / interpolate(curve.points, batch).p50Ms
    let window = curve.windows.get(slot)
    if (window === undefined) curve.windows.set(slot, (window = new Window()))
    window.add(ms * scale)
    curve.lastRunAt = this.#now()
    curve.observedSince += 1
    if (curve.observedSince >= 8 || curve.points.length === 0 || window.size <= TRUSTED.runs) {
      curve.points = pointsOf(curve)
      curve.observedSince = 0
    }
  }

  forget(variant: string): void {
    for (const key of [...this.#curves.keys()]) if (key.startsWith(`${variant}|`)) this.#curves.delete(key)
  }

  #points(variant: string, bucket: string): readonly Point[] {
    const curve = this.#curves.get(curveKey(variant, bucket))
    if (curve === undefined) return []
    return this.#isStale(curve) ? curve.seed : curve.points
  }

  #isStale({ seed, lastRunAt }: Curve): boolean {
    return seed.length > 0 && this.#now() - lastRunAt > STALE_MS
  }

  #curve(variant: string, bucket: string): Curve {
    const key = curveKey(variant, bucket)
    let curve = this.#curves.get(key)
    if (curve === undefined) this.#curves.set(key, (curve = { seed: [], windows: new Map(), points: [], observedSince: 0, lastRunAt: this.#now() }))
    return curve
  }
}

/** Requests with equal row shapes share a bucket: only they can run in one batch. */
export interface Bucket {
  key: string
  elementsPerRow: number
  /** The bucket of the profile, for shapes that have no history of their own. */
  reference: { key: string; elementsPerRow: number } | undefined
}

function curveKey(variant: string, bucket: string): string {
  return `${variant}|${bucket}`
}

/** Windows with enough runs replace the seed's point at their batch size; the curve never falls as batch grows. */
function pointsOf(curve: Curve): Point[] {
  const byBatch = new Map(curve.seed.map((point) => [point.batch, point]))
  for (const [batch, window] of curve.windows) {
    if (window.isTrusted || !isCovered(curve.seed, batch)) byBatch.set(batch, { batch, ...window.prediction() })
  }
  const points = [...byBatch.values()].sort((a, b) => a.batch - b.batch)
  return points.reduce<Point[]>((monotone, point) => {
    const previous = monotone.at(-1)
    monotone.push(
      previous === undefined ? point : { batch: point.batch, p50Ms: Math.max(point.p50Ms, previous.p50Ms), p99Ms: Math.max(point.p99Ms, previous.p99Ms) },
    )
    return monotone
  }, [])
}

function isCovered(seed: readonly Point[], batch: number): boolean {
  const last = seed.at(-1)
  return last !== undefined && batch <= last.batch
}

/** Linear between points; beyond the last point in proportion to rows; below the first, the first. */
function interpolate(points: readonly Point[], batch: number): Prediction {
  const upperIndex = points.findIndex((point) => point.batch >= batch)
  const last = points.at(-1) as Point
  if (upperIndex === -1) {
    const scale = batch / last.batch
    return { p50Ms: last.p50Ms * scale, p99Ms: last.p99Ms * scale }
  }
  const upper = points[upperIndex] as Point
  const lower = points[upperIndex - 1]
  if (lower === undefined || upper.batch === batch) return upper
  const share = (batch - lower.batch) / (upper.batch - lower.batch)
  return { p50Ms: lower.p50Ms + share * (upper.p50Ms - lower.p50Ms), p99Ms: lower.p99Ms + share * (upper.p99Ms - lower.p99Ms) }
}

/** Nearest rank on ascending values. */
function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? 0
}
