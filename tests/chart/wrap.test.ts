import { wrap } from '#flyweight/chart/wrap.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

describe('wrap', () => {
  it('breaks recipes after what joins their parts, sentences at spaces', () => {
    expect(wrap('prune-channels(ratio=0.5)+int8-static(calibration=min-max,exclude=a|b)', 30)).toEqual([
      'prune-channels(ratio=0.5)+',
      'int8-static(',
      'calibration=min-max,exclude=a|',
      'b)',
    ])
    expect(wrap('it is slower than its parent', 12)).toEqual(['it is slower', 'than its', 'parent'])
    expect(wrap('', 10)).toEqual([''])
  })

  it('never gives a line too long, and loses nothing but spaces', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'B', ' ', '+', ',', '(', '量', '😀'), maxLength: 60 }),
        fc.integer({ min: 1, max: 40 }),
        (text, width) => {
          const lines = wrap(text, width)
          expect(Math.max(...lines.map((line) => Array.from(line).length))).toBeLessThanOrEqual(width)
          expect(lines.join('').replaceAll(/\s/g, '')).toBe(text.replaceAll(/\s/g, ''))
        },
      ),
    )
  })
})
