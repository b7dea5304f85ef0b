// The stages of a shard plan as boxes from left to right, and what passes between them: arrows from one to the next,
// arcs above for what passes over others. Stages that may work at once stand below each other.
import { ranksOf } from './schedule.js'
import { element, escapeXml, text, textWidth } from './svg.js'
import { bytes, figure } from './units.js'
import { cutTo, wrap } from './wrap.js'

const LABEL_SIZE = 12
const LINE_HEIGHT = 17
const PADDING = 9
const [BOX_HEIGHT, BETWEEN_ROWS] = [114, 22]
const [NARROWEST, WIDEST, GAP] = [112, 190, 70]
/** Of arcs above each other. */
const LANE = 20
const DEVICE_LINES = 2
const BAR_HEIGHT = 5

export interface PlottedStage {
  device: string
  weightBytes: number
  /** Of weights that the device may hold; default: nothing is drawn of it. */
  budgetBytes?: number
  /** For one micro-batch, transfers included. */
  ms: number
  /** What it reads of stages before it, for one micro-batch. */
  reads: readonly { from: number; bytes: number }[]
}

export interface PlottedPlan {
  /** At least one. */
  stages: readonly PlottedStage[]
  microBatches: number
}

interface Placed {
  left: number
  top: number
  right: number
  bottom: number
}

interface Edge {
  from: number
  to: number
  bytes: number
}

export interface Boxes {
  elements: string[]
  right: number
  bottom: number
}

/** @param bounds where the drawing starts and, if it fits, ends: it goes on to the right where stages are many */
export function stageBoxes({ stages }: PlottedPlan, bounds: { left: number; right: number; top: number }, busiest: string): Boxes {
  const after = stages.map(({ reads }) => ({ after: reads.map(({ from }) => from) }))
  const ranks = ranksOf(after)
  const columns = Math.max(...ranks) + 1
  const edges = stages.flatMap(({ reads }, to): Edge[] => reads.map((read) => ({ from: read.from, to, bytes: read.bytes })))
  const passesOver = (from: number, to: number) => ranks[to]! - ranks[from]! > 1
  const arcs = lanesOf(edges.filter(({ from, to }) => passesOver(from, to)))
  const lanes = Math.max(0, ...arcs.map(({ lane }) => lane + 1))
  const top = bounds.top + lanes * LANE + (lanes > 0 ? 8 : 0)
  const width = Math.min(WIDEST, Math.max(NARROWEST, (bounds.right - bounds.left - (columns - 1) * GAP) / columns))
  const places = placed(ranks, { left: bounds.left, top, width })
  const drawnArcs = arcs.map((arc) => drawnArc(arc, places, arcs, top))
  return {
    elements: [
      ...drawnArcs.map(({ line }) => line),
      ...drawnArcs.map(({ label }) => label),
      ...edges.filter(({ from, to }) => !passesOver(from, to)).map(({ from, to }) => arrow(places[from]!, places[to]!)),
      ...stages.flatMap((stage, index) => box(stage, index, places[index]!, stage.device === busiest)),
      ...Array.from({ length: columns }, (_, rank) => edges.filter(({ from, to }) => ranks[from] === rank && ranks[to] === rank + 1)).flatMap((between) =>
        arrowLabels(between, places),
      ),
    ],
    right: Math.max(...places.map(({ right }) => right)),
    bottom: Math.max(...places.map(({ bottom }) => bottom)),
  }
}

/** Columns are centred on the tallest. */
function placed(ranks: readonly number[], { left, top, width }: { left: number; top: number; width: number }): Placed[] {
  const rows = (rank: number) => ranks.filter((other) => other === rank).length
  const most = Math.max(...ranks.map(rows))
  return ranks.map((rank, stage) => {
    const row = ranks.slice(0, stage).filter((other) => other === rank).length + (most - rows(rank)) / 2
    const [x, y] = [left + rank * (width + GAP), top + row * (BOX_HEIGHT + BETWEEN_ROWS)]
    return { left: x, right: x + width, top: y, bottom: y + BOX_HEIGHT }
  })
}

function box({ device, weightBytes, ms, budgetBytes }: PlottedStage, index: number, { left, top, right, bottom }: Placed, slowest: boolean): string[] {
  const room = right - left - 2 * PADDING
  const characters = Math.floor(room / textWidth('0', LABEL_SIZE))
  const name = wrap(device, characters)
  const lines = name.length > DEVICE_LINES ? [...name.slice(0, DEVICE_LINES - 1), cutTo(name.slice(DEVICE_LINES - 1).join(''), characters)] : name
  const written = [`stage ${index}`, ...lines]
  const told = budgetBytes === undefined ? bytes(weightBytes) : `${bytes(weightBytes)} of ${bytes(budgetBytes)}`
  const weights = told.length > characters ? bytes(weightBytes) : told
  const share = budgetBytes === undefined ? 0 : budgetBytes === 0 ? 1 : Math.min(1, weightBytes / budgetBytes)
  const barTop = bottom - PADDING - BAR_HEIGHT
  return [
    element(
      'g',
      {},
      element('title', {}, escapeXml(`stage ${index} on ${device}: ${told} of weights, ${figure(ms)} ms`)),
      element('rect', { class: slowest ? 'box slow' : 'box', x: left, y: top, width: right - left, height: bottom - top, rx: 6 }),
      ...written.map((each, line) => text(left + PADDING, top + 20 + LINE_HEIGHT * line, each, line === 0 ? undefined : 'quiet')),
      text(left + PADDING, bottom - PADDING - BAR_HEIGHT - 9 - LINE_HEIGHT, weights),
      text(left + PADDING, bottom - PADDING - BAR_HEIGHT - 9, `${figure(ms)} ms`),
      ...(budgetBytes === undefined
        ? []
        : [
            element('rect', { class: 'budget', x: left + PADDING, y: barTop, width: room, height: BAR_HEIGHT, rx: 2 }),
            element('rect', {
              class: weightBytes > budgetBytes ? 'over' : 'used',
              x: left + PADDING,
              y: barTop,
              width: room * share,
              height: BAR_HEIGHT,
              rx: 2,
            }),
          ]),
    ),
  ]
}

function arrow(from: Placed, to: Placed): string {
  const [x, y] = [to.left - 2, (to.top + to.bottom) / 2]
  return (
    element('path', { class: 'edge', d: `M${from.right} ${(from.top + from.bottom) / 2}L${x - 6} ${y}` }) +
    element('path', { class: 'head', d: `M${x} ${y}l-8 -4v8z` })
  )
}

/** Nearer to where they start, so that those of crossing arrows part, then pushed apart. */
function arrowLabels(edges: readonly Edge[], places: readonly Placed[]): string[] {
  const wanted = edges.map(({ from, to, bytes: size }) => {
    const [start, end] = [places[from]!, places[to]!]
    const y = 0.7 * ((start.top + start.bottom) / 2) + 0.3 * ((end.top + end.bottom) / 2)
    return { x: start.right + GAP / 2 - 3, y: y - 6, label: bytes(size) }
  })
  let last = -Infinity
  return wanted
    .sort((a, b) => a.y - b.y)
    .map(({ x, y, label }) => {
      last = Math.max(y, last + LANE)
      return onPaper(x, last, label)
    })
}

interface Arc extends Edge {
  lane: number
}

/** The lowest lane in which no other arc is in the way, short ones first. */
function lanesOf(edges: readonly Edge[]): Arc[] {
  const arcs: Arc[] = []
  for (const edge of [...edges].sort((a, b) => a.to - a.from - (b.to - b.from))) {
    const taken = new Set(arcs.filter(({ from, to }) => from <= edge.to && edge.from <= to).map(({ lane }) => lane))
    let lane = 0
    while (taken.has(lane)) lane++
    arcs.push({ ...edge, lane })
  }
  return arcs
}

/** From the right half of a box's upper edge to the left half of another's, behind what is between. */
function drawnArc(arc: Arc, places: readonly Placed[], arcs: readonly Arc[], top: number): { line: string; label: string } {
  const [from, to] = [places[arc.from]!, places[arc.to]!]
  // Outer arcs start and end further in, so that they do not cross inner ones.
  const leaving = arcs.filter((other) => other.from === arc.from).sort((a, b) => b.to - a.to)
  const arriving = arcs.filter((other) => other.to === arc.to).sort((a, b) => b.from - a.from)
  const place = (list: readonly Arc[]) => (list.indexOf(arc) + 1) / (list.length + 1) / 2
  const x1 = from.left + (from.right - from.left) * (0.5 + place(leaving))
  const x2 = to.left + (to.right - to.left) * (0.5 - place([...arriving].reverse()))
  const y = top - 12 - LANE * arc.lane
  return {
    line:
      element('path', { class: 'edge', d: `M${x1} ${from.top}V${y + 5}Q${x1} ${y} ${x1 + 5} ${y}H${x2 - 5}Q${x2} ${y} ${x2} ${y + 5}V${to.top - 8}` }) +
      element('path', { class: 'head', d: `M${x2} ${to.top - 1}l-4 -8h8z` }),
    label: onPaper((x1 + x2) / 2, y + 4, bytes(arc.bytes)),
  }
}

/** A label that hides the lines behind it. */
function onPaper(x: number, y: number, label: string): string {
  const width = textWidth(label, LABEL_SIZE) + 4
  return element('rect', { class: 'paper', x: x - width / 2, y: y - 12, width, height: 16 }) + text(x, y, label, 'middle')
}
