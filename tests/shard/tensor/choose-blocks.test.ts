// Which blocks are worth their messages.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { blockSets, type BlockCost } from '#flyweight/shard/tensor/choose-blocks.js'

const devices = (count: number) => Array.from({ length: count }, (_, part) => ({ name: `cpu:${part}` }))
const block = (of: Partial<BlockCost>): BlockCost => ({ kind: 'sum', units: 64, ms: 1, weightBytes: 10, bytes: 1000, ...of })

describe('blockSets', () => {
  it('begins with what gains more time than a message takes', () => {
    const costs = [block({ ms: 4 }), block({ ms: 1 }), block({ ms: 0.1 })]
    expect(blockSets(costs, 1000, { devices: devices(2), msPerHop: 0.4 })).toEqual([
      [0, 1],
      [0, 1, 2],
    ])
    // A result of 1000 bytes goes out once, and comes in from both.
    expect(blockSets(costs, 1000, { devices: devices(2), msPerHop: 0.4, msPerByte: 0.0001 })[0]).toEqual([0])
  })

  it('has all sums where none pays, and layers that are a large share of the model', () => {
    const costs = [block({ ms: 0 }), block({ kind: 'concat', ms: 0, weightBytes: 62 }), block({ kind: 'concat', ms: 0, weightBytes: 63 })]
    expect(blockSets(costs, 1000, { devices: devices(2), msPerHop: 1 })).toEqual([
      [0, 2],
      [0, 1, 2],
    ])
    expect(blockSets([], 1000, { devices: devices(2) })).toEqual([])
  })

  it('leaves less to a slow second device', () => {
    const costs = [block({ ms: 1 })]
    const pays = (speed: number) => blockSets([...costs, block({ ms: 0 })], 1000, { devices: [{ name: 'a' }, { name: 'b', speed }], msPerHop: 0.2 })[0]
    expect(pays(1)).toEqual([0])
    expect(pays(0.1)).toEqual([0, 1])
  })

  it('gives sets that grow, up to all', () => {
    const costs = fc.record({
      kind: fc.constantFrom('sum' as const, 'concat' as const),
      units: fc.integer({ min: 2, max: 50 }),
      ms: fc.double({ min: 0, max: 5, noNaN: true }),
      weightBytes: fc.nat(100),
      bytes: fc.nat(100),
    })
    fc.assert(
      fc.property(fc.array(costs, { maxLength: 8 }), fc.integer({ min: 2, max: 5 }), (blocks, count) => {
        const sets = blockSets(blocks, 500, { devices: devices(count), msPerByte: 0.001, msPerHop: 0.5 })
        for (const [index, set] of sets.slice(1).entries()) {
          expect(set.length).toBeGreaterThan(sets[index]!.length)
          expect(set).toEqual(expect.arrayContaining(sets[index]!))
        }
        expect(sets.at(-1) ?? []).toHaveLength(blocks.length)
      }),
    )
  })
})
