// How the bench judges a detector: boxes from maps, and how far boxes and masks agree.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { boxesOf, boxF1, boxIou, maskIou, maskOf } from '../../bench/tasks/boxes.mjs'

const box = (left: number, top: number, right: number, bottom: number) => ({ left, top, right, bottom })

describe('overlap of boxes', () => {
  it('is the common area over the joint area', () => {
    expect(boxIou(box(0, 0, 4, 4), box(2, 0, 6, 4))).toBeCloseTo(8 / 24, 12)
    expect(boxIou(box(0, 0, 4, 4), box(4, 0, 8, 4))).toBe(0)
    expect(boxIou(box(0, 0, 10, 10), box(2, 2, 4, 7))).toBeCloseTo(10 / 100, 12)
  })

  it('agrees with counting whole pixels, whichever comes first', () => {
    const side = fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 1, max: 9 }))
    const boxes = fc.tuple(side, side).map(([[left, width], [top, height]]) => box(left, top, left + width, top + height))
    const pixels = (of: ReturnType<typeof box>) =>
      new Set(
        Array.from({ length: 20 * 20 }, (_, at) => at).filter((at) => {
          const [x, y] = [at % 20, Math.floor(at / 20)]
          return x >= of.left && x < of.right && y >= of.top && y < of.bottom
        }),
      )
    fc.assert(
      fc.property(boxes, boxes, (a, b) => {
        const [inA, inB] = [pixels(a), pixels(b)]
        const both = [...inA].filter((at) => inB.has(at)).length
        expect(boxIou(a, b)).toBeCloseTo(both / (inA.size + inB.size - both), 12)
        expect(boxIou(b, a)).toBe(boxIou(a, b))
      }),
    )
  })
})

describe('F1 of boxes', () => {
  it('counts a drawn box once, and boxes that nobody drew against it', () => {
    const drawn = [box(0, 0, 10, 4), box(0, 10, 10, 14)]
    expect(boxF1([[drawn, drawn]])).toBe(1)
    expect(boxF1([[[], drawn]])).toBe(0)
    expect(boxF1([[[box(0, 0, 10, 4), box(0, 0, 10, 5)], drawn]])).toBeCloseTo(0.5, 12)
    expect(boxF1([[[...drawn, box(50, 50, 60, 60)], drawn]])).toBeCloseTo(4 / 5, 12)
  })
})

describe('masks', () => {
  it('agree by the share of what either marks', () => {
    const [a, b] = [maskOf([0.1, 0.4, 0.9, 0.3]), maskOf([0.1, 0.1, 0.9, 0.31])]
    expect(maskIou([[a, b]])).toBeCloseTo(1 / 3, 12)
    expect(maskIou([[maskOf([0, 0]), maskOf([0, 0])]])).toBe(1)
  })
})

describe('boxes of a map', () => {
  it('are the connected regions, grown by their area over their perimeter, without faint and tiny ones', () => {
    const [width, height] = [60, 40]
    const map = new Float32Array(width * height)
    const paint = ({ left, top, right, bottom }: ReturnType<typeof box>, value: number) => {
      for (let y = top; y < bottom; y++) map.fill(value, y * width + left, y * width + right)
    }
    paint(box(10, 10, 30, 16), 0.9)
    paint(box(10, 25, 30, 31), 0.4)
    paint(box(50, 5, 52, 7), 0.9)
    const grow = ((20 * 6) / (2 * 26)) * 1.5
    expect(boxesOf(map, width, height)).toEqual([box(10 - grow, 10 - grow, 30 + grow, 16 + grow)])
  })
})
