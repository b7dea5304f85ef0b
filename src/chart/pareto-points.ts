// Which candidates of a search a plot shows, and as what: one point for each that was measured. Decides the
// quality that all of them can be compared by, and the part of it worth showing. No pixels, no SVG.
import type { SearchCandidate, SearchReport } from '../measurements.js'

export type Role = 'reference' | 'front' | 'dominated' | 'rejected'

export interface ParetoPoint {
  candidate: SearchCandidate
  role: Role
  /** Its number in the key; front members other than the source have one. */
  number?: number
  /** Geometric mean of its latency ratios over the batch sizes, and the least and greatest of them. */
  ratio: number
  fastest: number
  slowest: number
  quality: number
  bytes: number
  /** Its quality is below what the plot shows; its latency is beyond it. */
  below: boolean
  beyond: boolean
}

export interface ParetoPoints {
  quality: 'accuracy' | 'fidelity'
  /** The front left to right, numbered in this order, then the others; the source among either. */
  points: readonly ParetoPoint[]
  batches: readonly number[]
  /** Least and greatest value shown; the first is below the second. */
  qualities: readonly [number, number]
  ratios: readonly [number, number]
  /** Candidates without a point. */
  notDrawn: number
}

/** The name of the source model among the candidates. */
export const SOURCE = 'fp32'
/** Candidates more than this many times as far below the front as it is high would squeeze it to a line. */
const FARTHEST_BELOW = 2
/** So would those that take this many times as long as the slowest of the front. */
const MOST_TIMES_SLOWER = 2
/** Least height and width shown, so that noise does not look like a difference. */
const LEAST_SPAN = 0.01
const LEAST_WIDTH = 1.1

export function paretoPoints({ candidates }: SearchReport): ParetoPoints {
  const measured = candidates.filter(isMeasured)
  const quality = measured.length > 0 && measured.every(({ accuracy }) => isNumber(accuracy)) ? 'accuracy' : 'fidelity'
  const points = measured.map((candidate) => pointOf(candidate, candidate[quality] as number)).sort(byRank)
  let number = 0
  for (const point of points) if (point.role === 'front') point.number = ++number

  const front = points.some(isOnFront) ? points.filter(isOnFront) : points
  const [least, most] = spanOf(front.map((point) => point.quality))
  const floor = least - FARTHEST_BELOW * Math.max(LEAST_SPAN, most - least)
  const limit = MOST_TIMES_SLOWER * Math.max(1, ...front.map(({ slowest }) => slowest))
  for (const point of points) {
    point.below = point.quality < floor
    point.beyond = point.ratio > limit
  }
  const [lowest, highest] = spanOf(points.filter(({ below }) => !below).map((point) => point.quality))
  const widest = points.filter(({ beyond }) => !beyond).flatMap((point) => (isOnFront(point) ? [point.fastest, point.slowest] : [point.ratio]))
  return {
    quality,
    points,
    batches: [...new Set(measured.flatMap(({ ratios }) => ratios.map(({ batch }) => batch)))].sort((a, b) => a - b),
    qualities: atLeast(lowest, highest),
    ratios: atLeastTimes(Math.min(1, ...widest), Math.max(1, ...widest)),
    notDrawn: candidates.length - measured.length,
  }
}

/** Whether it is one of those that the line of the front connects; the source may be one of them. */
export function isOnFront({ candidate }: ParetoPoint): boolean {
  return candidate.fate === 'front'
}

/** Geometric mean over the batch sizes: half the time at one and twice at another make 1. */
export function meanRatio(ratios: NonNullable<SearchCandidate['ratios']>): number {
  return Math.exp(ratios.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / ratios.length)
}

type Measured = SearchCandidate & Required<Pick<SearchCandidate, 'ratios' | 'fidelity' | 'bytes'>>

function isMeasured(candidate: SearchCandidate): candidate is Measured {
  const { fate, ratios = [], fidelity, bytes } = candidate
  if (fate === 'failed' || fate === 'skipped' || ratios.length === 0) return false
  return isNumber(fidelity) && isNumber(bytes) && ratios.every(({ ratio }) => isNumber(ratio) && ratio > 0)
}

/** Reports come through JSON too, which has null for what is no number. */
function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function pointOf(candidate: Measured, quality: number): ParetoPoint {
  const ratios = candidate.ratios.map(({ ratio }) => ratio)
  const role = candidate.recipe === SOURCE ? 'reference' : (candidate.fate as Role)
  return {
    candidate,
    role,
    ratio: meanRatio(candidate.ratios),
    fastest: Math.min(...ratios),
    slowest: Math.max(...ratios),
    quality,
    bytes: candidate.bytes,
    below: false,
    beyond: false,
  }
}

/** The front first, left to right. */
function byRank(a: ParetoPoint, b: ParetoPoint): number {
  return Number(isOnFront(b)) - Number(isOnFront(a)) || a.ratio - b.ratio || a.quality - b.quality
}

/** Least and greatest; 1 where there are none. */
function spanOf(values: readonly number[]): [number, number] {
  return values.length === 0 ? [1, 1] : [Math.min(...values), Math.max(...values)]
}

/** Neither quality goes above 1. */
function atLeast(low: number, high: number): [number, number] {
  const top = Math.min(1, high + Math.max(0, LEAST_SPAN - (high - low)) / 2)
  return [Math.min(low, top - LEAST_SPAN), top]
}

function atLeastTimes(low: number, high: number): [number, number] {
  const more = Math.sqrt(Math.max(1, LEAST_WIDTH / (high / low)))
  return [low / more, high * more]
}
