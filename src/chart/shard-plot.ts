// A shard plan as an SVG of its own: the stages with what passes between them above, below when which device works on
// which micro-batch. Where boxes stand is stage-boxes.ts's, when stages work schedule.ts's.
import { linearAxis } from './scale.js'
import { schedule, type Span } from './schedule.js'
import { stageBoxes, type PlottedPlan, type PlottedStage } from './stage-boxes.js'
import { styleSheet } from './style.js'
import { element, escapeXml, line, text, textWidth } from './svg.js'
import { bytes, figure } from './units.js'
import { cutTo } from './wrap.js'

const WIDTH = 880
const [LEFT, MARGIN] = [24, 24]
const ROW_HEIGHT = 26
const BAR_HEIGHT = 18
const LABEL_SIZE = 12
const TITLE_SIZE = 15
/** Characters of a row's name. */
const LONGEST_NAME = 22
/** Of all micro-batches together: what is shorter was not measured. */
const LEAST_MS = 1e-6
/** Bars less wide than this stand without a gap between them. */
const NARROW = 4

const STYLE = styleSheet(
  `.box{fill:#f6f8fa;stroke:#0969da;stroke-width:1.25}.slow{stroke:#bc4c00;stroke-width:2}.edge{fill:none;stroke:#59636e;stroke-width:1.25}
.head{fill:#59636e}.budget,.idle{fill:#eaeef2}.used{fill:#0969da}.over{fill:#cf222e}
.even{fill:#0969da}.odd{fill:#54aeff}.even.slow{fill:#bc4c00;stroke:none}.odd.slow{fill:#f0883e;stroke:none}.number{fill:#fff}.odd+.number{fill:#1f2328}`,
  `.box{fill:#151b23;stroke:#4493f8}.box.slow{stroke:#f0883e}.edge{stroke:#9198a1}.head{fill:#9198a1}.budget,.idle{fill:#2a313c}.used{fill:#4493f8}.over{fill:#f85149}
.even{fill:#1f6feb}.odd{fill:#79c0ff}.even.slow{fill:#bd561d}.odd.slow{fill:#f0883e}.number{fill:#fff}.odd+.number{fill:#0d1117}`,
)

export interface ShardPlotOptions {
  /** What was cut; default: `Stages`. */
  title?: string
}

/**
 * An SVG document of 880 user units' width, or more where stages are many. The same plan gives the same text. The busiest
 * device, which sets the pace, has a colour of its own.
 */
export function shardPlot(plan: PlottedPlan, { title = 'Stages' }: ShardPlotOptions = {}): string {
  const { stages, microBatches } = plan
  const loads = loadsOf(stages)
  const busiest = [...loads].reduce((best, load) => (load[1] > best[1] ? load : best))[0]
  const spans = schedule(
    stages.map(({ ms, device, reads }) => ({ ms, device, after: reads.map(({ from }) => from) })),
    microBatches,
  )
  const end = Math.max(0, ...spans.map(({ endMs }) => endMs))
  const boxes = stageBoxes(plan, { left: LEFT, right: WIDTH - MARGIN, top: 72 }, busiest)
  const width = Math.max(WIDTH, boxes.right + MARGIN)
  const rows = ganttRows(plan, { spans, end, devices: [...loads.keys()], busiest, width, top: boxes.bottom + 56 })
  const height = boxes.bottom + 56 + loads.size * ROW_HEIGHT + 54
  const summary = summaryOf(plan, { end, busiest, devices: loads.size })
  const characters = Math.floor((width - LEFT - MARGIN) / textWidth('0', LABEL_SIZE))
  return element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      'aria-labelledby': 'title',
      'aria-describedby': 'desc',
    },
    element('title', { id: 'title' }, escapeXml(title)),
    element('desc', { id: 'desc' }, escapeXml([`${summary}.`, ...stages.map(told)].join(' '))),
    element('style', {}, STYLE),
    element('rect', { class: 'paper', width, height }),
    text(LEFT, 28, cutTo(title, Math.floor((width - LEFT - MARGIN) / textWidth('0', TITLE_SIZE))), 'title'),
    text(LEFT, 52, cutTo(summary, characters), 'quiet'),
    ...boxes.elements,
    ...rows,
    '\n',
  )
}

/** What each device has to do for one micro-batch, ms. */
function loadsOf(stages: PlottedPlan['stages']): Map<string, number> {
  const loads = new Map<string, number>()
  for (const { device, ms } of stages) loads.set(device, (loads.get(device) ?? 0) + ms)
  return loads
}

function summaryOf({ stages, microBatches }: PlottedPlan, { end, busiest, devices }: { end: number; busiest: string; devices: number }): string {
  const many = `${microBatches} ${microBatches === 1 ? 'micro-batch' : 'micro-batches'}`
  if (devices === 1) return `${stages.length === 1 ? '1 stage' : `${stages.length} stages on one device`}, ${many} in ${figure(end)} ms`
  const busy = microBatches * stages.reduce((sum, { ms }) => sum + ms, 0)
  const waiting = end === 0 ? 0 : 1 - busy / (devices * end)
  return `${stages.length} stages, ${many} in ${figure(end)} ms, devices wait ${(100 * waiting).toFixed(0)} % of the time; busiest: ${busiest}`
}

/** One stage in words, for those who do not see it. */
function told({ device, weightBytes, budgetBytes, ms, reads }: PlottedStage, index: number): string {
  const budget = budgetBytes === undefined ? '' : ` of at most ${bytes(budgetBytes)}`
  const read = reads.length === 0 ? '' : `, reads ${reads.map(({ from, bytes: size }) => `${bytes(size)} of stage ${from}`).join(' and ')}`
  return `Stage ${index} on ${device}: ${bytes(weightBytes)} of weights${budget}, ${figure(ms)} ms${read}.`
}

interface Gantt {
  spans: readonly Span[]
  end: number
  /** A row each. */
  devices: readonly string[]
  busiest: string
  width: number
  top: number
}

function ganttRows({ stages }: PlottedPlan, { spans, end, devices, busiest, width, top }: Gantt): string[] {
  const names = devices.map((device) => cutTo(device, LONGEST_NAME))
  const left = LEFT + Math.ceil(Math.max(...names.map((name) => textWidth(name, LABEL_SIZE)))) + 12
  const right = width - MARGIN
  const bottom = top + devices.length * ROW_HEIGHT
  const drawable = end > LEAST_MS
  const axis = linearAxis({ domain: [0, drawable ? end : 1], range: [left, right], margin: 0, count: 8 })
  const y = (row: number) => top + row * ROW_HEIGHT + (ROW_HEIGHT - BAR_HEIGHT) / 2
  const drawn = (span: Span) => {
    const { device } = stages[span.stage]!
    const x = axis.place(span.startMs)
    return bar(span, { x, width: axis.place(span.endMs) - x, y: y(devices.indexOf(device)), slow: device === busiest })
  }
  return [
    ...names.map((name, row) => text(LEFT, y(row) + 13, name)),
    ...devices.map((_, row) => element('rect', { class: 'idle', x: left, y: y(row), width: right - left, height: BAR_HEIGHT })),
    ...(drawable ? spans.map(drawn) : [text((left + right) / 2, (top + bottom) / 2 + 4, 'no times to draw', 'middle quiet')]),
    line({ class: 'grid', x1: left, x2: right, y1: bottom + 2, y2: bottom + 2 }),
    ...(drawable ? axis.ticks : []).flatMap(({ value, text: written }) => [
      line({ class: 'grid', x1: axis.place(value), x2: axis.place(value), y1: bottom + 2, y2: bottom + 7 }),
      // The last would reach over the edge where it is long.
      text(Math.min(axis.place(value), width - 4 - textWidth(written, LABEL_SIZE) / 2), bottom + 21, written, 'middle'),
    ]),
    text((left + right) / 2, bottom + 40, 'ms; numbers: micro-batches; grey: devices wait', 'middle quiet'),
  ]
}

function bar({ stage, microBatch, startMs, endMs }: Span, { x, width, y, slow }: { x: number; width: number; y: number; slow: boolean }): string {
  const number = String(microBatch + 1)
  const gap = width < NARROW ? 0 : 1
  const fits = width - gap >= textWidth(number, LABEL_SIZE) + 4
  return element(
    'g',
    {},
    element('title', {}, `stage ${stage}, micro-batch ${number}: ${figure(startMs)} to ${figure(endMs)} ms`),
    element('rect', { class: `${microBatch % 2 === 0 ? 'even' : 'odd'}${slow ? ' slow' : ''}`, x, y, width: Math.max(0, width - gap), height: BAR_HEIGHT }),
    ...(fits ? [text(x + (width - gap) / 2, y + 13, number, 'middle number')] : []),
  )
}
