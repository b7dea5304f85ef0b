// The Pareto front of a search as an SVG of its own: latency ratio against quality, a bubble's area its bytes.
// Which points there are is pareto-points.ts's, the table below them pareto-key.ts's.
import type { SearchReport } from '../measurements.js'
import { placeLabels, type Anchor, type Box } from './labels.js'
import { keyOf } from './pareto-key.js'
import { isOnFront, paretoPoints, SOURCE, type ParetoPoint, type ParetoPoints } from './pareto-points.js'
import { linearAxis, logAxis, type Axis } from './scale.js'
import { styleSheet } from './style.js'
import { element, escapeXml, line, text, textWidth, type StyledLine } from './svg.js'
import { bytes, ratio } from './units.js'

const WIDTH = 880
const AREA: Box = { left: 76, top: 104, right: 856, bottom: 504 }
const LARGEST_RADIUS = 20
/** A bubble with less could not be seen, nor pointed at. */
const LEAST_RADIUS = 3
/** Length of the arrow at a bubble that the plot is too small for. */
const ARROW = 8
const LABEL_SIZE = 12
const LABEL_HEIGHT = 15
const LONGEST_LABEL = 26

const STYLE = styleSheet(
  `.same{stroke:#9a6700;stroke-width:1;stroke-dasharray:5 4}
.front{fill:#0969da;fill-opacity:.7;stroke:#0550ae}.dominated{fill:#818b98;fill-opacity:.3;stroke:#818b98}
.rejected{fill:none;stroke:#818b98;stroke-dasharray:2 2}.reference{fill:#9a6700;fill-opacity:.25;stroke:#9a6700;stroke-width:2}
.line{fill:none;stroke:#0969da;stroke-width:1.5;stroke-opacity:.6}.spread{stroke:#0550ae;stroke-width:1}`,
  `.same,.reference{stroke:#d29922}.reference{fill:#d29922}.front{fill:#4493f8;stroke:#79c0ff}.line{stroke:#4493f8}.spread{stroke:#79c0ff}`,
)

/**
 * An SVG document of 880 user units' width and as high as the key of the front needs. The same report gives the same text.
 * Candidates without latency, bytes and fidelity (failed, skipped) are counted in a note, and have no bubble.
 */
export function paretoPlot(report: SearchReport): string {
  const data = paretoPoints(report)
  const range = { margin: LARGEST_RADIUS + 6 }
  const x = logAxis({ ...range, domain: data.ratios, range: [AREA.left + range.margin, AREA.right - range.margin], count: 8 })
  const y = linearAxis({ ...range, domain: data.qualities, range: [AREA.bottom - range.margin, AREA.top + range.margin], count: 6 })
  const largest = Math.max(1, ...data.points.map((point) => point.bytes))
  const placed = data.points.map((point) => {
    const radius = Math.max(LEAST_RADIUS, LARGEST_RADIUS * Math.sqrt(point.bytes / largest))
    return {
      point,
      radius,
      x: point.beyond ? AREA.right - ARROW - radius : x.place(point.ratio),
      y: point.below ? AREA.bottom - ARROW - radius : y.place(point.quality),
    }
  })
  const lines = linesOf(placed, x)
  const title = titleOf(report, data)
  const key = keyOf(data, { left: AREA.left, right: AREA.right, top: AREA.bottom + 76 })
  const height = key.bottom + 16
  return element(
    'svg',
    { xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height, role: 'img', 'aria-labelledby': 'title' },
    element('title', { id: 'title' }, escapeXml(title)),
    element('style', {}, STYLE),
    element('rect', { class: 'paper', width: WIDTH, height }),
    text(AREA.left, 28, title, 'title'),
    ...legend(largest),
    ...axes(data, { x, y }),
    ...lines.map(line),
    ...bubbles(placed),
    ...labels(placed, lines),
    ...key.elements,
    '\n',
  )
}

interface PlacedPoint {
  point: ParetoPoint
  x: number
  y: number
  radius: number
}

function titleOf({ candidates, elapsedSeconds, budgetSeconds }: SearchReport, { points }: ParetoPoints): string {
  const tried = candidates.filter(({ recipe }) => recipe !== SOURCE).length
  return `Pareto front: ${points.filter(({ role }) => role === 'front').length} of ${tried} candidates, ${Math.round(elapsedSeconds)} s of ${Math.round(budgetSeconds)} s`
}

function legend(largest: number): string[] {
  const y = 68
  const kinds = [
    ['front', 'Pareto front'],
    ['dominated', 'dominated'],
    ['rejected', 'rejected'],
    ['reference', `${SOURCE} (reference)`],
  ] as const
  let left = AREA.left
  const items = kinds.map(([name, meaning]) => {
    const item = element('circle', { class: name, cx: left + 7, cy: y, r: 6 }) + text(left + 19, y + 4, meaning)
    left += 19 + textWidth(meaning, LABEL_SIZE) + 20
    return item
  })
  // Largest and a quarter of it: the second has half the radius, which shows that areas count.
  let right = AREA.right
  const sizes = [largest, largest / 4].map((size) => {
    const radius = LARGEST_RADIUS * Math.sqrt(size / largest)
    const item = text(right, y + 4, bytes(size), 'end')
    right -= textWidth(bytes(size), LABEL_SIZE) + 6 + radius
    const circle = element('circle', { class: 'dominated', cx: right, cy: y, r: radius })
    right -= radius + 12
    return item + circle
  })
  return [...items, ...sizes, text(right, y + 4, 'area: bytes', 'quiet end')]
}

function axes({ quality, batches }: ParetoPoints, { x, y }: { x: Axis; y: Axis }): string[] {
  const { left, top, right, bottom } = AREA
  const same = x.place(1)
  const over =
    batches.length > 1 ? `, geometric mean of batches ${batches.join(', ')}; whiskers: least to greatest` : batches.map((batch) => `, batch ${batch}`).join('')
  const middle = (top + bottom) / 2
  return [
    ...x.ticks.map(
      ({ value, text: name }) =>
        line({ class: 'grid', x1: x.place(value), x2: x.place(value), y1: top, y2: bottom }) + text(x.place(value), bottom + 20, name, 'middle'),
    ),
    // Neither quality can be above 1.
    ...y.ticks
      .filter(({ value }) => value <= 1 + 1e-9)
      .map(
        ({ value, text: name }) =>
          line({ class: 'grid', x1: left, x2: right, y1: y.place(value), y2: y.place(value) }) + text(left - 8, y.place(value) + 4, name, 'end'),
      ),
    line({ class: 'same', x1: same, x2: same, y1: top, y2: bottom }),
    text((left + right) / 2, bottom + 42, `latency ÷ ${SOURCE}’s${over} (left is faster)`, 'middle quiet'),
    element(
      'text',
      { class: 'middle quiet', transform: `translate(20 ${middle}) rotate(-90)` },
      escapeXml(quality === 'accuracy' ? 'accuracy, share of labels' : `fidelity to ${SOURCE}`),
    ),
  ]
}

/** What joins the front, and how far the ratios of each of its members reach. */
function linesOf(placed: readonly PlacedPoint[], x: Axis): StyledLine[] {
  const front = placed.filter(({ point }) => isOnFront(point))
  return [
    ...front.slice(1).map((to, index) => ({ class: 'line', x1: front[index]!.x, y1: front[index]!.y, x2: to.x, y2: to.y })),
    ...front
      .filter(({ point }) => point.slowest > point.fastest)
      .map(({ point, y }) => ({ class: 'spread', x1: x.place(point.fastest), x2: x.place(point.slowest), y1: y, y2: y })),
  ]
}

function bubbles(placed: readonly PlacedPoint[]): string[] {
  const order = { rejected: 0, dominated: 1, front: 2, reference: 3 }
  const byDepth = [...placed].sort((a, b) => order[a.point.role] - order[b.point.role] || b.radius - a.radius)
  return [
    ...byDepth.map(({ point, x, y, radius }) =>
      element('circle', { class: `mark ${point.role}`, cx: x, cy: y, r: radius }, element('title', {}, escapeXml(describe(point)))),
    ),
    ...placed.flatMap(({ point: { below, beyond }, x, y }) => [
      ...(below ? [arrow(`M${(x - ARROW / 2).toFixed(2)} ${AREA.bottom - ARROW}h${ARROW}l-${ARROW / 2} ${ARROW}z`)] : []),
      ...(beyond ? [arrow(`M${AREA.right - ARROW} ${(y - ARROW / 2).toFixed(2)}v${ARROW}l${ARROW} -${ARROW / 2}z`)] : []),
    ]),
  ]
}

/** Points to where a bubble would be if the plot went on. */
function arrow(d: string): string {
  return element('path', { class: 'dominated', d })
}

/** For viewers that show it when pointed at. */
function describe({ candidate, quality, ratio: mean, bytes: size }: ParetoPoint): string {
  const batches = candidate.ratios?.map(({ batch, ratio: each }) => `${ratio(each)} at batch ${batch}`).join(', ') ?? ratio(mean)
  return `${candidate.recipe}\n${batches}\n${quality.toFixed(4)}\n${bytes(size)}\n${candidate.fate}: ${candidate.reason}`
}

function labels(placed: readonly PlacedPoint[], lines: readonly StyledLine[]): string[] {
  const named = placed.filter(({ point }) => point.role === 'front' || point.role === 'reference')
  const others = placed.filter((each) => !named.includes(each))
  const anchors: Anchor[] = named.map(({ point, x, y, radius }) => ({ x, y, radius, texts: textsOf(point) }))
  const avoid = { points: others, lines }
  const found = placeLabels({ anchors, avoid, area: AREA, height: LABEL_HEIGHT, widthOf: (label) => textWidth(label, LABEL_SIZE) })
  return found.flatMap((label) => {
    if (label === undefined) return []
    const { box, leader } = label
    return [...(leader === undefined ? [] : [line({ class: 'leader', ...leader })]), text(box.left, box.bottom - 4, label.text, 'label')]
  })
}

/** Number and name, or only the number where there is no room; the key has names in full. */
function textsOf({ number, candidate }: ParetoPoint): string[] {
  if (number === undefined) return [SOURCE]
  const characters = Array.from(candidate.recipe)
  const name = characters.length > LONGEST_LABEL ? `${characters.slice(0, LONGEST_LABEL - 1).join('')}…` : candidate.recipe
  return [`${number} ${name}`, String(number)]
}
