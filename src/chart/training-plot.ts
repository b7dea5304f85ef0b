// The curve of a training as an SVG of its own: losses above, accuracy below, over epochs, the best point marked.
// Which values there are, and on what scales, is training-points.ts's.
import type { CurvePoint } from '../measurements.js'
import { placeLabels, type Anchor, type Box, type Circle, type LabelOptions } from './labels.js'
import { linearAxis, logAxis, type Axis, type AxisOptions } from './scale.js'
import { styleSheet } from './style.js'
import { element, escapeXml, line, text, textWidth, type StyledLine } from './svg.js'
import { trainingPoints, valuesOf, type Reading, type Series, type TrainingPoints } from './training-points.js'
import { figure, power } from './units.js'
import { wrap } from './wrap.js'

const WIDTH = 880
const [LEFT, RIGHT, TOP] = [96, 856, 104]
/** Heights of the losses' panel with and without the accuracy's below it, and of that. */
const [LOSSES_OF_BOTH, LOSSES_ALONE, ACCURACIES, BETWEEN] = [250, 350, 150, 24]
/** Pixels between a panel's edge and its outermost values; above are the marks of values left out. */
const MARGIN = 22
const LABEL_SIZE = 12
const LABEL_HEIGHT = 15
const TITLE_SIZE = 15
/** More points than this are a line without dots. */
const MOST_DOTTED = 60
const BEST_RADIUS = 6
const LONGEST_TICK = 7

const STYLE = styleSheet(
  `.training{stroke:#0969da;fill:#0969da}.held-out{stroke:#bc4c00;fill:#bc4c00}.accuracy{stroke:#1a7f37;fill:#1a7f37}
.line{fill:none;stroke-width:1.75;stroke-linejoin:round}.dot{stroke:none}.out{fill:none;stroke-width:1.25}
.best{fill:none;stroke:#1f2328;stroke-width:1.75}.at{stroke:#59636e;stroke-width:1;stroke-dasharray:5 4}`,
  `.training{stroke:#4493f8;fill:#4493f8}.held-out{stroke:#f0883e;fill:#f0883e}.accuracy{stroke:#3fb950;fill:#3fb950}
.line,.out{fill:none}.dot{stroke:none}.best{stroke:#f0f6fc}.at{stroke:#9198a1}`,
)

export interface TrainingPlotOptions {
  /** What was trained; default: `Training`. Cut where the picture is too narrow for it. */
  title?: string
}

interface Panel {
  area: Box
  x: Axis
  y: Axis
  name: string
  series: readonly Series[]
  /** Values below stand at the lower edge: a logarithmic scale has to end somewhere. */
  least: number
  /** Between which values there can be any, and so ticks. */
  bounds: readonly [number, number]
  best?: Circled
  /** In place of the values, where there are none. */
  empty: string
}

/** Where the best point stands in a panel, and what is written at it. */
interface Circled extends Reading {
  label: string
}

/**
 * An SVG document of 880 user units' width: losses over epochs, and the accuracy on held-out rows where the curve has any.
 * The same curve gives the same text. Losses that are not finite or far beyond the others are marked and counted, not
 * drawn; null counts as not finite. The best point is that of highest accuracy, or without any of lowest held-out loss.
 */
export function trainingPlot(curve: readonly CurvePoint[], { title = 'Training' }: TrainingPlotOptions = {}): string {
  const data = trainingPoints(curve)
  const panels = panelsOf(data)
  const [first, last] = [panels[0] as Panel, panels.at(-1) as Panel]
  const { bottom } = last.area
  const notes = data.notes.flatMap((note) => wrap(note, Math.floor((RIGHT - LEFT) / textWidth('0', LABEL_SIZE))))
  const height = bottom + 58 + (notes.length === 0 ? 0 : 10 + 18 * notes.length)
  const summary = summaryOf(data)
  return element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${WIDTH} ${height}`,
      width: WIDTH,
      height,
      role: 'img',
      'aria-labelledby': 'title',
      'aria-describedby': 'desc',
    },
    element('title', { id: 'title' }, escapeXml(title)),
    element('desc', { id: 'desc' }, escapeXml([summary, ...seriesOf(data).map(told), ...data.notes].map((each) => `${each}.`).join(' '))),
    element('style', {}, STYLE),
    element('rect', { class: 'paper', width: WIDTH, height }),
    text(LEFT, 28, cut(title), 'title'),
    text(LEFT, 52, summary, 'quiet'),
    ...legend(seriesOf(data)),
    ...panels.flatMap(grid),
    ...first.x.ticks.map(({ value }, index) => text(first.x.place(value), bottom + 20, tickTexts(first.x)[index] as string, 'middle')),
    text((LEFT + RIGHT) / 2, bottom + 42, 'epochs', 'middle quiet'),
    ...(data.best === undefined ? [] : [line(plumb(first.x.place(data.best.epoch), first.area.top, bottom))]),
    ...panels.flatMap(drawn),
    ...notes.map((note, index) => text(LEFT, bottom + 70 + 18 * index, note, 'quiet')),
    '\n',
  )
}

function seriesOf({ losses, accuracy }: TrainingPoints): Series[] {
  return [...losses, ...(accuracy === undefined ? [] : [accuracy])]
}

function panelsOf({ losses, accuracy, best, last, lossRange, accuracyRange, logarithmic }: TrainingPoints): Panel[] {
  const x = linearAxis({ domain: [0, last > 0 ? last : 1], range: [LEFT + MARGIN, RIGHT - MARGIN], margin: 0, count: 8 })
  const panel = (top: number, height: number, axis: (options: AxisOptions) => Axis, domain: readonly [number, number]) => {
    const area = { left: LEFT, right: RIGHT, top, bottom: top + height }
    const y = axis({ domain, range: [area.bottom - MARGIN, area.top + MARGIN], margin: MARGIN, count: height / 35 })
    return { area, x, y, least: domain[0] }
  }
  const bestLoss = best && readingAt(losses[1], best)
  const upper: Panel = {
    ...panel(TOP, accuracy === undefined ? LOSSES_ALONE : LOSSES_OF_BOTH, logarithmic ? logAxis : linearAxis, lossRange),
    name: logarithmic ? 'loss (logarithmic)' : 'loss',
    series: losses,
    bounds: [losses.flatMap(valuesOf).some((loss) => loss < 0) ? -Infinity : 0, Infinity],
    empty: 'no loss to draw',
    ...(bestLoss && { best: { ...bestLoss, label: accuracy === undefined ? `best: ${figure(bestLoss.value)}` : figure(bestLoss.value) } }),
  }
  if (accuracy === undefined) return [upper]
  const bestAccuracy = best && readingAt(accuracy, best)
  const lower: Panel = {
    ...panel(upper.area.bottom + BETWEEN, ACCURACIES, linearAxis, accuracyRange),
    name: 'accuracy, %',
    series: [accuracy],
    bounds: [0, 100],
    empty: '',
    ...(bestAccuracy && { best: { ...bestAccuracy, label: `best: ${written('accuracy', bestAccuracy.value)}` } }),
  }
  return [upper, lower]
}

function readingAt({ stretches }: Series, { step }: CurvePoint): Reading | undefined {
  return stretches.flat().find((reading) => reading.step === step)
}

function summaryOf({ losses, accuracy, best, last }: TrainingPoints): string {
  if (best === undefined) return losses.some(({ stretches }) => stretches.length > 0) ? 'No held-out loss to judge by' : 'Nothing to draw'
  const [loss, share] = [readingAt(losses[1], best), accuracy && readingAt(accuracy, best)]
  const judged = [...(share ? [`accuracy ${written('accuracy', share.value)}`] : []), ...(loss ? [`loss ${figure(loss.value)}`] : [])]
  return `Best after ${figure(best.epoch)} of ${epochs(last)} (step ${best.step}): ${judged.join(', ')} on held-out rows`
}

/** One series in words, for those who do not see it. */
function told({ kind, name, stretches }: Series): string {
  const readings = stretches.flat()
  const [first, last] = [readings[0], readings.at(-1)]
  if (first === undefined || last === undefined) return `${name}: nothing to draw`
  return readings.length === 1 ? `${name}: ${at(kind, first)}` : `${name}: from ${at(kind, first)} to ${at(kind, last)}`
}

function legend(series: readonly Series[]): string[] {
  let left = LEFT
  return series.map(({ kind, name, stretches }) => {
    const last = stretches.at(-1)?.at(-1)
    const meaning = last === undefined ? name : `${name}, last ${written(kind, last.value)}`
    const sample =
      element('path', { class: `line ${kind}`, d: `M${left} 80h20` }) + element('circle', { class: `dot ${kind}`, cx: left + 10, cy: 80, r: dotRadius(kind) })
    const item = sample + text(left + 26, 84, meaning)
    left += 26 + textWidth(meaning, LABEL_SIZE) + 18
    return item
  })
}

function grid({ area: { left, right, top, bottom }, x, y, name, series, bounds, empty }: Panel): string[] {
  const middle = (top + bottom) / 2
  const vertical = x.ticks.map(({ value }) => line({ class: 'grid', x1: x.place(value), x2: x.place(value), y1: top, y2: bottom }))
  const title = element('text', { class: 'middle quiet', transform: `translate(16 ${middle}) rotate(-90)` }, escapeXml(name))
  if (series.every(({ stretches }) => stretches.length === 0)) return [...vertical, title, text((left + right) / 2, middle, empty, 'middle quiet')]
  const texts = tickTexts(y)
  const horizontal = y.ticks.map(({ value }, index) => {
    if (value < bounds[0] - 1e-9 || value > bounds[1] + 1e-9) return ''
    const at = y.place(value)
    return line({ class: 'grid', x1: left, x2: right, y1: at, y2: at }) + text(left - 8, at + 4, texts[index] as string, 'end')
  })
  return [...vertical, ...horizontal, title]
}

/** As powers of ten where one would be too long. */
function tickTexts({ ticks }: Axis): string[] {
  const long = ticks.some(({ text: written }) => written.length > LONGEST_TICK)
  return ticks.map(({ value, text: written }) => (long ? (value === 0 ? '0' : power(value)) : written))
}

/** Lines, dots, marks of values left out, and the best point with its label. */
function drawn({ area, x, y, least, series, best }: Panel): string[] {
  const place = ({ epoch, value }: Reading) => ({ x: x.place(epoch), y: y.place(Math.max(value, least)) })
  const stretches = series.flatMap(({ kind, stretches: own }) => own.map((readings) => ({ kind, readings, places: readings.map(place) })))
  const dotted = series.every((each) => valuesOf(each).length <= MOST_DOTTED)
  // A reading on its own is no line, and could not be seen without.
  const dots = stretches.flatMap(({ kind, readings, places }) =>
    places.flatMap((at, index) => (dotted || readings.length === 1 ? [{ kind, ...at, radius: dotRadius(kind), reading: readings[index] as Reading }] : [])),
  )
  const out = series.flatMap(({ kind, leftOut }, row) => crosses(kind, leftOut.map(x.place), area.top + 7 + 9 * row))
  const circled = best && { ...place(best), radius: BEST_RADIUS, texts: [best.label] }
  const lines = stretches.flatMap(({ kind, places }) =>
    places.slice(1).map((to, index) => ({ class: kind, x1: places[index]!.x, y1: places[index]!.y, x2: to.x, y2: to.y })),
  )
  return [
    ...stretches
      .filter(({ places }) => places.length > 1)
      .map(({ kind, places }) => element('path', { class: `line ${kind}`, d: `M${places.map((at) => `${at.x.toFixed(2)} ${at.y.toFixed(2)}`).join('L')}` })),
    ...dots.map(({ kind, x: cx, y: cy, radius, reading }) =>
      element('circle', { class: `dot ${kind}`, cx, cy, r: radius }, element('title', {}, at(kind, reading))),
    ),
    ...out.map(({ element: drawing }) => drawing),
    ...(circled === undefined ? [] : [element('circle', { class: 'best', cx: circled.x, cy: circled.y, r: BEST_RADIUS })]),
    ...(circled === undefined ? [] : labelled(circled, area, { points: [...dots, ...out], lines: [...lines, plumb(circled.x, area.top, area.bottom)] })),
  ]
}

function labelled(anchor: Anchor, area: Box, avoid: LabelOptions['avoid']): string[] {
  const labels = placeLabels({ anchors: [anchor], avoid, area, height: LABEL_HEIGHT, widthOf: (label) => textWidth(label, LABEL_SIZE) })
  return labels.flatMap((label) => {
    if (label === undefined) return []
    const { box, leader } = label
    return [...(leader === undefined ? [] : [line({ class: 'leader', ...leader })]), text(box.left, box.bottom - 4, label.text, 'label')]
  })
}

/** One cross a value left out; where they would run into each other, one for them all. */
function crosses(kind: Series['kind'], places: readonly number[], y: number): (Circle & { element: string })[] {
  const apart = [...new Set(places.map((place) => Math.round(place / 6) * 6))]
  return apart.map((x) => ({ x, y, radius: 3, element: element('path', { class: `out ${kind}`, d: `M${x - 3} ${y - 3}l6 6m0 -6l-6 6` }) }))
}

/** Where the best point is, through both panels. */
function plumb(x: number, top: number, bottom: number): StyledLine {
  return { class: 'at', x1: x, x2: x, y1: top, y2: bottom }
}

function dotRadius(kind: Series['kind']): number {
  return kind === 'training' ? 2.25 : 3
}

function at(kind: Series['kind'], { epoch, step, value }: Reading): string {
  return `${written(kind, value)} after ${epochs(epoch)} (step ${step})`
}

function written(kind: Series['kind'], value: number): string {
  return kind === 'accuracy' ? `${value.toFixed(2)} %` : figure(value)
}

function epochs(count: number): string {
  return `${figure(count)} ${count === 1 ? 'epoch' : 'epochs'}`
}

function cut(title: string): string {
  const characters = Array.from(title)
  while (textWidth(`${characters.join('')}…`, TITLE_SIZE) > RIGHT - LEFT) characters.splice(-Math.ceil(characters.length / 100))
  return characters.length < Array.from(title).length ? `${characters.join('')}…` : title
}
