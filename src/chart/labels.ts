// Where labels of points go so that none covers another, nor a point that counts: the nearest free place around
// the point, of several texts the longest that fits. Pure geometry.

export interface Box {
  left: number
  top: number
  right: number
  bottom: number
}

export interface Circle {
  x: number
  y: number
  radius: number
}

export interface Line {
  x1: number
  y1: number
  x2: number
  y2: number
}

export interface Anchor extends Circle {
  /** What to write, the best first; the last is placed however far away. */
  texts: readonly string[]
}

export interface PlacedLabel {
  text: string
  box: Box
  /** From the point to a label that does not touch it. */
  leader?: Line
}

export interface LabelOptions {
  anchors: readonly Anchor[]
  /** What labels cover only where nothing else is free. */
  avoid: { readonly points: readonly Circle[]; readonly lines: readonly Line[] }
  area: Box
  height: number
  widthOf(text: string): number
}

const DIRECTIONS = 16
/** Pixels between a point's edge and a label's. */
const GAP = 4
/** Pixels between labels side by side, so that two do not read as one. */
const APART = 5
const NEAR = [GAP, 12, 22, 34]
const FAR_STEP = 14

/**
 * One label an anchor, in their order; undefined for one that found no free place at all. The nearest place by rings
 * around the point, as in Imhof's rules for point features (Positioning Names on Maps, 1975): right of it before left.
 */
export function placeLabels({ anchors, avoid, area, height, widthOf }: LabelOptions): (PlacedLabel | undefined)[] {
  const taken: Box[] = anchors.map(boxOf)
  const soft = [...avoid.points.map(boxOf), ...avoid.lines.flatMap(along)]
  const far = Array.from({ length: Math.ceil((area.right - area.left) / FAR_STEP) }, (_, ring) => NEAR.at(-1)! + (ring + 1) * FAR_STEP)
  return anchors.map((anchor) => {
    const inClear = anchor.texts.map((text) => ({ text, rings: NEAR, obstacles: [...taken, ...soft] }))
    const text = anchor.texts.at(-1) ?? ''
    const attempts = [...inClear, { text, rings: far.slice(0, 4), obstacles: [...taken, ...soft] }, { text, rings: [...NEAR, ...far], obstacles: taken }]
    for (const { text, rings, obstacles } of attempts) {
      const label = nearest(anchor, { text, width: widthOf(text), height, rings, obstacles, area })
      if (label === undefined) continue
      taken.push({ ...label.box, left: label.box.left - APART, right: label.box.right + APART })
      if (label.leader !== undefined) soft.push(...along(label.leader))
      return label
    }
    return undefined
  })
}

interface Search {
  text: string
  width: number
  height: number
  rings: readonly number[]
  obstacles: readonly Box[]
  area: Box
}

function nearest(anchor: Anchor, { text, width, height, rings, obstacles, area }: Search): PlacedLabel | undefined {
  for (const ring of rings) {
    for (let turn = 0; turn < DIRECTIONS; turn++) {
      // 0, +1, −1, +2, … sixteenths from the right; up before down.
      const angle = (Math.ceil(turn / 2) * (turn % 2 === 1 ? -1 : 1) * 2 * Math.PI) / DIRECTIONS
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)]
      const [x, y] = [anchor.x + cosine * (anchor.radius + ring), anchor.y + sine * (anchor.radius + ring)]
      const left = x - (width * (1 - cosine)) / 2
      const top = y - (height * (1 - sine)) / 2
      const box = { left, top, right: left + width, bottom: top + height }
      if (!within(box, area) || obstacles.some((other) => overlap(box, other))) continue
      if (ring === GAP) return { text, box }
      const leader = { x1: anchor.x + cosine * anchor.radius, y1: anchor.y + sine * anchor.radius, x2: x, y2: y }
      return { text, box, leader }
    }
  }
  return undefined
}

function boxOf({ x, y, radius }: Circle): Box {
  return { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius }
}

/** Small boxes along a line, for labels to keep off it. */
function along({ x1, y1, x2, y2 }: Line): Box[] {
  const count = Math.max(1, Math.round(Math.hypot(x2 - x1, y2 - y1) / 6))
  return Array.from({ length: count }, (_, index) => {
    const share = (index + 0.5) / count
    return boxOf({ x: x1 + (x2 - x1) * share, y: y1 + (y2 - y1) * share, radius: 1 })
  })
}

function within(box: Box, area: Box): boolean {
  return box.left >= area.left && box.right <= area.right && box.top >= area.top && box.bottom <= area.bottom
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}
