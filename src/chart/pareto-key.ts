// The key below a Pareto plot: the members of the front by number and the source, with their names in full and their figures.
import { isOnFront, type ParetoPoint, type ParetoPoints } from './pareto-points.js'
import { text, textWidth } from './svg.js'
import { bytes } from './units.js'
import { wrap } from './wrap.js'

const SIZE = 12
const LINE = 18
const COLUMN_GAP = 20

export interface KeyArea {
  left: number
  right: number
  top: number
}

/** Lines of text from `top` on; `bottom` is where the last one ends. */
export function keyOf({ points, quality, batches, notDrawn }: ParetoPoints, { left, right, top }: KeyArea): { elements: string[]; bottom: number } {
  const rows = points.filter((point) => isOnFront(point) || point.role === 'reference')
  const columns = [
    ...batches.map((batch) => ({
      head: `batch ${batch}`,
      cell: ({ candidate }: ParetoPoint) => candidate.ratios?.find((each) => each.batch === batch)?.ratio.toFixed(2) ?? '',
    })),
    { head: quality, cell: (point: ParetoPoint) => point.quality.toFixed(4) },
    { head: 'bytes', cell: (point: ParetoPoint) => bytes(point.bytes) },
  ]
  let edge = right
  const rights = columns
    .toReversed()
    .map(({ head, cell }) => {
      const own = edge
      edge -= Math.max(...[head, ...rows.map(cell)].map((content) => textWidth(content, SIZE))) + COLUMN_GAP
      return own
    })
    .toReversed()
  const nameLeft = left + textWidth('00 ', SIZE)
  const nameColumns = Math.max(16, Math.floor((edge - nameLeft) / textWidth('0', SIZE)))

  let y = top
  const elements = [text(left, y, 'recipe', 'quiet'), ...columns.map(({ head }, index) => text(rights[index]!, y, head, 'quiet end'))]
  for (const point of rows) {
    y += LINE
    elements.push(text(left, y, String(point.number ?? '')), ...columns.map(({ cell }, index) => text(rights[index]!, y, cell(point), 'end')))
    for (const [index, part] of wrap(nameOf(point), nameColumns).entries()) {
      if (index > 0) y += LINE
      elements.push(text(nameLeft, y, part))
    }
  }
  const [below, beyond] = [points.filter((point) => point.below).length, points.filter((point) => point.beyond).length]
  const notes = [
    ...(rows.some(({ candidate }) => candidate.pinnedOnly) ? ['* for its bytes: answers only when pinned'] : []),
    ...(below === 0 ? [] : [`▾ ${below} of lower ${quality} than the plot shows`]),
    ...(beyond === 0 ? [] : [`▸ ${beyond} slower`]),
    ...(notDrawn === 0 ? [] : [`${notDrawn} failed, skipped or not measured: not drawn`]),
  ]
  if (notes.length > 0) elements.push(text(left, (y += LINE + 6), notes.join('; '), 'quiet'))
  return { elements, bottom: y }
}

function nameOf({ candidate: { recipe, pinnedOnly } }: ParetoPoint): string {
  return pinnedOnly === true ? `${recipe} *` : recipe
}
