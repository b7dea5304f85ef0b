import { placeLabels, type Box } from '#flyweight/chart/labels.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const area = { left: 0, top: 0, right: 800, bottom: 400 }
const widthOf = (text: string) => text.length * 7
const overlap = (a: Box, b: Box) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom

describe('placeLabels', () => {
  it('covers no label and no point, stays inside, and finds room for each of twenty, however close', () => {
    const anchor = fc.record({ x: fc.integer({ min: 300, max: 340 }), y: fc.integer({ min: 180, max: 200 }), radius: fc.integer({ min: 3, max: 20 }) })
    fc.assert(
      fc.property(fc.array(anchor, { maxLength: 20 }), (circles) => {
        const anchors = circles.map((circle, index) => ({ ...circle, texts: [`${index} a name of a recipe`, String(index)] }))
        const placed = placeLabels({ anchors, avoid: { points: [], lines: [] }, area, height: 15, widthOf })
        const boxes = placed.map((label) => label!.box)
        for (const [index, box] of boxes.entries()) {
          expect(boxes.slice(index + 1).some((other) => overlap(box, other))).toBe(false)
          expect(circles.some(({ x, y, radius }) => overlap(box, { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius }))).toBe(false)
          expect(box.left >= 0 && box.top >= 0 && box.right <= 800 && box.bottom <= 400).toBe(true)
        }
      }),
      { numRuns: 100 },
    )
  })

  it('writes a name beside a point that stands alone, and a number with a leader where names have no room', () => {
    const alone = { x: 400, y: 200, radius: 10, texts: ['1 int8-static', '1'] }
    const options = { avoid: { points: [], lines: [] }, area, height: 15, widthOf }
    expect(placeLabels({ ...options, anchors: [alone] })).toEqual([{ text: '1 int8-static', box: { left: 414, top: 192.5, right: 505, bottom: 207.5 } }])
    const crowd = { points: [{ x: 400, y: 200, radius: 60 }], lines: [] }
    const [label] = placeLabels({ ...options, anchors: [alone], avoid: crowd })
    expect(label).toMatchObject({ text: '1', leader: expect.anything() as unknown })
  })
})
