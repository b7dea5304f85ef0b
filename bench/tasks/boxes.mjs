// Boxes and masks: from a detector's probability map to boxes, and how far two sets of boxes or two masks agree. Pure.

/** A text kernel counts from this mean probability on, as PaddleOCR's `box_thresh`. */
const LEAST_SCORE = 0.6
/** Differentiable binarization finds kernels shrunk by area × ratio ÷ perimeter; growing them back takes this ratio. https://arxiv.org/abs/1911.08947 */
const UNCLIP_RATIO = 1.5
const LEAST_SIDE = 3

/** Mask of a map: 1 where it is above `threshold`. */
export function maskOf(map, threshold = 0.3) {
  return Uint8Array.from(map, (value) => Number(value > threshold))
}

/**
 * Upright boxes `{ left, top, right, bottom }` (right and bottom outside) around the connected regions of a map above
 * the threshold, grown back to whole text.
 */
export function boxesOf(map, width, height) {
  const open = maskOf(map)
  const boxes = []
  for (let start = 0; start < open.length; start++) {
    if (open[start] === 0) continue
    const { left, top, right, bottom, score } = floodRegion({ open, map, width, height, start })
    if (score < LEAST_SCORE || right - left < LEAST_SIDE || bottom - top < LEAST_SIDE) continue
    const grow = (((right - left) * (bottom - top)) / (2 * (right - left + bottom - top))) * UNCLIP_RATIO
    boxes.push({
      left: Math.max(0, left - grow),
      top: Math.max(0, top - grow),
      right: Math.min(width, right + grow),
      bottom: Math.min(height, bottom + grow),
    })
  }
  return boxes
}

/** Takes the region of `start`, by its four neighbours, out of `open`. */
function floodRegion({ open, map, width, height, start }) {
  const waiting = [start]
  open[start] = 0
  let [left, top, right, bottom, sum, count] = [width, height, 0, 0, 0, 0]
  while (waiting.length > 0) {
    const at = waiting.pop()
    const [x, y] = [at % width, Math.floor(at / width)]
    sum += map[at]
    count += 1
    left = Math.min(left, x)
    top = Math.min(top, y)
    right = Math.max(right, x + 1)
    bottom = Math.max(bottom, y + 1)
    const neighbours = [x > 0 ? at - 1 : -1, x + 1 < width ? at + 1 : -1, y > 0 ? at - width : -1, y + 1 < height ? at + width : -1]
    for (const neighbour of neighbours) {
      if (neighbour < 0 || open[neighbour] === 0) continue
      open[neighbour] = 0
      waiting.push(neighbour)
    }
  }
  return { left, top, right, bottom, score: sum / count }
}

/** Intersection over union of two boxes. */
export function boxIou(a, b) {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left)
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)
  if (width <= 0 || height <= 0) return 0
  const area = (box) => (box.right - box.left) * (box.bottom - box.top)
  return (width * height) / (area(a) + area(b) - width * height)
}

/** Intersection over union of masks over all pages together; 1 where both are empty. */
export function maskIou(pairs) {
  let [both, either] = [0, 0]
  for (const [a, b] of pairs) {
    for (let i = 0; i < a.length; i++) {
      both += a[i] & b[i]
      either += a[i] | b[i]
    }
  }
  return either === 0 ? 1 : both / either
}

/** F1 over pages of [found, drawn] boxes: a drawn box is found once, by the box that overlaps it most, by half at least. */
export function boxF1(pages, leastIou = 0.5) {
  let [hits, total] = [0, 0]
  for (const [found, drawn] of pages) {
    total += found.length + drawn.length
    const overlaps = found.flatMap((a, i) => drawn.map((b, j) => ({ i, j, iou: boxIou(a, b) }))).filter(({ iou }) => iou >= leastIou)
    const [usedFound, usedDrawn] = [new Set(), new Set()]
    for (const { i, j } of overlaps.sort((a, b) => b.iou - a.iou)) {
      if (usedFound.has(i) || usedDrawn.has(j)) continue
      usedFound.add(i)
      usedDrawn.add(j)
      hits += 1
    }
  }
  return total === 0 ? 1 : (2 * hits) / total
}
