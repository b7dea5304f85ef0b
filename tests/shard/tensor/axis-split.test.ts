// Sharing out units, and splits across reshapes against a reference that numbers the elements.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { evenSplit, shareUnits, throughReshape, type AxisSplit } from '#flyweight/shard/tensor/axis-split.js'

describe('shareUnits', () => {
  it('gives each unit to one part, and each part some, by speed', () => {
    const speeds = fc.array(fc.double({ min: 0.1, max: 10, noNaN: true }), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), speeds, fc.nat(9), (units, by, turn) => {
        const ranges = shareUnits(units, by, turn)
        expect(ranges).toHaveLength(Math.min(units, by.length))
        expect(ranges.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, index) => from + index))).toEqual([...new Array(units).keys()])
        expect(Math.min(...ranges.map(({ from, to }) => to - from))).toBeGreaterThan(0)
      }),
    )
    expect(shareUnits(8, [3, 1])).toEqual([
      { from: 0, to: 6 },
      { from: 6, to: 8 },
    ])
  })

  it('gives what does not divide to one device after the other', () => {
    const totals = [0, 0, 0]
    for (let turn = 0; turn < 6; turn++) for (const [part, { from, to }] of shareUnits(4, [1, 1, 1], turn).entries()) totals[part]! += to - from
    expect(totals).toEqual([8, 8, 8])
  })

  it('keeps whole vectors together where there are enough', () => {
    expect(shareUnits(80, [1, 1]).map(({ to }) => to)).toEqual([48, 80])
    expect(shareUnits(10, [1, 1]).map(({ to }) => to)).toEqual([5, 10])
  })
})

/** The unit of each element, in order. */
function unitsOf(dims: readonly number[], { axis, units, inner }: AxisSplit): number[] {
  const after = dims.slice(axis + 1).reduce((product, size) => product * size, 1) * (inner[0] as number)
  return Array.from({ length: dims.reduce((product, size) => product * size, 1) }, (_, index) => Math.floor(index / after) % units)
}

describe('throughReshape', () => {
  it('keeps each element in its unit', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 4 })
    let passed = 0
    fc.assert(
      fc.property(sizes, fc.nat(2), fc.nat(3), fc.boolean(), fc.boolean(), (dims, at, chosen, ones, backward) => {
        const position = at % (dims.length - 1)
        const merged = [...dims.slice(0, position), dims[position]! * dims[position + 1]!, ...dims.slice(position + 2), ...(ones ? [1] : [])]
        const [from, to] = backward ? [merged, dims] : [dims, merged]
        const axis = chosen % to.length
        for (let units = 2; units <= to[axis]!; units++) {
          if (to[axis]! % units !== 0) continue
          const split = evenSplit(axis, to[axis]!, units, 1)
          const found = throughReshape(split, { from: [from], to: [to] })
          if (found === undefined || !('axis' in found)) {
            if (found) expect(units % found.units).toBe(0)
            continue
          }
          passed++
          expect(unitsOf(from, found)).toEqual(unitsOf(to, split))
        }
      }),
      { numRuns: 500, seed: 1 },
    )
    expect(passed).toBeGreaterThan(300)
  })

  it('finds heads, with sizes of the batch in outer', () => {
    const merged = [2, 3].map((rows) => [rows * 4, 5, 16])
    const heads = [2, 3].map((rows) => [rows, 4, 5, 16])
    expect(throughReshape({ axis: 1, outer: [1, 1], units: 4, inner: [1, 1] }, { from: merged, to: heads })).toEqual({
      axis: 0,
      outer: [2, 3],
      units: 4,
      inner: [1, 1],
    })
    expect(throughReshape(evenSplit(2, 64, 64, 2), { from: [2, 3].map((rows) => [rows, 5, 4, 16]), to: [2, 3].map((rows) => [rows, 5, 64]) })).toEqual({
      units: 4,
    })
  })
})
