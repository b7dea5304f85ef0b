// Which values of a training curve a plot shows, and on what scales: losses that are no numbers, or far beyond the
// others, would leave nothing of the curve to see. No pixels, no SVG.
import type { CurvePoint } from '../measurements.js'
import { figure } from './units.js'

export interface Reading {
  step: number
  epoch: number
  value: number
}

export interface Series {
  /** Also its class in the picture. */
  kind: 'training' | 'held-out' | 'accuracy'
  name: string
  /** In order of epochs, none empty; between two of them a value was left out. */
  stretches: readonly (readonly Reading[])[]
  /** Epochs of the values left out. */
  leftOut: readonly number[]
}

export interface TrainingPoints {
  /** Loss of the training and of the held-out rows. */
  losses: readonly [Series, Series]
  /** In percent; absent where no point has any. */
  accuracy?: Series
  /** Highest accuracy, then lowest loss, then the earliest, of the values shown. */
  best?: CurvePoint
  /** Epochs that the curve reaches. */
  last: number
  /** Least and greatest value shown; the first is below the second. */
  lossRange: readonly [number, number]
  accuracyRange: readonly [number, number]
  /** Whether equal ratios of losses are to be equally far apart; all of `lossRange` is above 0 then. */
  logarithmic: boolean
  /** What the picture does not show, or not in its place. */
  notes: readonly string[]
}

/** Losses this many times as large as a lower quartile, or as 1, which is much for any loss, are left out. */
const MOST_TIMES_LARGER = 1000
/** Above what float32 holds with room for sums, and small enough for sums in float64. */
const LARGEST = 1e30
/** Losses over more than so many times get a logarithmic scale, */
const LONGEST_LINEAR = 20
/** and those below the greatest by more than this stand at its lower edge. */
const LONGEST_LOGARITHMIC = 1e6
/** Least height shown, as a share of the loss and in percent of accuracy, so that noise does not look like a difference. */
const LEAST_LOSS_SPAN = 0.02
const LEAST_ACCURACY_SPAN = 1
const TINY = 1e-12
const MOST_EPOCHS = 1e6

export function trainingPoints(curve: readonly CurvePoint[]): TrainingPoints {
  const points = curve.filter(({ epoch }) => isNumber(epoch) && epoch >= 0 && epoch <= MOST_EPOCHS).sort((a, b) => a.epoch - b.epoch)
  const limit = limitOf(points.flatMap(({ loss, heldOut }) => [loss, heldOut.loss]).filter(isNumber))
  const isShown = (loss: unknown): loss is number => isNumber(loss) && Math.abs(loss) <= limit
  const training = seriesOf('training', 'training loss', points, ({ loss }) => (isShown(loss) ? loss : undefined))
  const heldOut = seriesOf('held-out', 'held-out loss', points, (point) => (isShown(point.heldOut.loss) ? point.heldOut.loss : undefined))
  const judged = points.filter((point) => point.heldOut.accuracy !== undefined)
  const accuracy = seriesOf('accuracy', 'held-out accuracy', judged, (point) => (isShare(point.heldOut.accuracy) ? 100 * point.heldOut.accuracy : undefined))

  const losses = [training, heldOut].flatMap(valuesOf)
  const scale = scaleOf(losses)
  const unheard = points.flatMap(({ loss, heldOut: { loss: other } }) => [loss, other]).filter((loss) => !isNumber(loss)).length
  const outside = training.leftOut.length + heldOut.leftOut.length - unheard
  const atEdge = losses.filter((loss) => loss < scale.range[0]).length
  return {
    losses: [training, heldOut],
    ...(accuracy.stretches.length === 0 ? {} : { accuracy }),
    ...bestOf(points, isShown),
    last: points.at(-1)?.epoch ?? 0,
    lossRange: scale.range,
    accuracyRange: accuracyRange(valuesOf(accuracy)),
    logarithmic: scale.logarithmic,
    notes: [
      ...(unheard + outside === 0
        ? []
        : [
            `× ${unheard + outside} of ${2 * points.length} losses left out: ${[...some(unheard, 'not finite'), ...some(outside, `beyond ±${figure(limit)}`)].join(', ')}`,
          ]),
      ...some(atEdge, `of ${2 * points.length} losses below ${figure(scale.range[0])} at the lower edge`),
      ...(accuracy.leftOut.length === 0 ? [] : [`× ${accuracy.leftOut.length} of ${judged.length} accuracies left out: not from 0 to 1`]),
      ...some(curve.length - points.length, `of ${curve.length} points left out: no epoch`),
    ],
  }
}

export function valuesOf({ stretches }: Series): number[] {
  return stretches.flatMap((stretch) => stretch.map(({ value }) => value))
}

/** Curves come through JSON too, which has null for what is no number. */
function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function isShare(value: unknown): value is number {
  return isNumber(value) && value >= 0 && value <= 1
}

function some(count: number, what: string): string[] {
  return count === 0 ? [] : [`${count} ${what}`]
}

/** By the lower quartile: of a training that diverges late or early, most are as large as the worst. */
function limitOf(losses: readonly number[]): number {
  const sizes = losses.map(Math.abs).sort((a, b) => a - b)
  return Math.min(LARGEST, MOST_TIMES_LARGER * Math.max(1, sizes[Math.floor((sizes.length - 1) / 4)] ?? 1))
}

function seriesOf(kind: Series['kind'], name: string, points: readonly CurvePoint[], valueOf: (point: CurvePoint) => number | undefined): Series {
  const stretches: Reading[][] = [[]]
  const leftOut: number[] = []
  for (const point of points) {
    const value = valueOf(point)
    if (value !== undefined) stretches.at(-1)?.push({ step: point.step, epoch: point.epoch, value })
    else {
      leftOut.push(point.epoch)
      stretches.push([])
    }
  }
  return { kind, name, stretches: stretches.filter(({ length }) => length > 0), leftOut }
}

function bestOf(points: readonly CurvePoint[], isShown: (loss: unknown) => boolean): { best?: CurvePoint } {
  const accurate = points.filter(({ heldOut }) => isShare(heldOut.accuracy))
  const candidates = accurate.length > 0 ? accurate : points.filter(({ heldOut }) => isShown(heldOut.loss))
  const accuracyOf = ({ heldOut }: CurvePoint) => (accurate.length > 0 ? (heldOut.accuracy as number) : 0)
  const lossOf = ({ heldOut }: CurvePoint) => (isNumber(heldOut.loss) ? heldOut.loss : Infinity)
  const [best] = candidates.toSorted((a, b) => accuracyOf(b) - accuracyOf(a) || lossOf(a) - lossOf(b) || 0)
  return best === undefined ? {} : { best }
}

function scaleOf(losses: readonly number[]): { range: readonly [number, number]; logarithmic: boolean } {
  if (losses.length === 0) return { range: [0, 1], logarithmic: false }
  const [low, high] = spanOf(losses)
  const floor = high / LONGEST_LOGARITHMIC
  const [least] = spanOf(losses.filter((loss) => loss > floor))
  // A loss that is 0 but for rounding may be a little below.
  if (high > TINY && low >= -floor && high > LONGEST_LINEAR * least) return { range: [least, high], logarithmic: true }
  const more = Math.max(0, Math.max(TINY, LEAST_LOSS_SPAN * Math.max(Math.abs(low), Math.abs(high))) - (high - low)) / 2
  return { range: [low - more, high + more], logarithmic: false }
}

function accuracyRange(values: readonly number[]): [number, number] {
  const [low, high] = spanOf(values)
  const top = Math.min(100, high + Math.max(0, LEAST_ACCURACY_SPAN - (high - low)) / 2)
  return [Math.max(0, Math.min(low, top - LEAST_ACCURACY_SPAN)), Math.max(top, LEAST_ACCURACY_SPAN)]
}

/** Least and greatest; 1 where there are none. Not by spreading: curves may be long. */
function spanOf(values: readonly number[]): [number, number] {
  return values.length === 0 ? [1, 1] : [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))]
}
