// Partitions against exhaustive search: cuts in order are the best there are, and refinement makes them no worse and
// nearly as good as any assignment; budgets are kept, and what does not fit is refused with what it would take.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chainCuts } from '#flyweight/shard/chain-cuts.js'
import { partition } from '#flyweight/shard/partition.js'
import { bottleneckMs, crossingBytes, stageCosts, type CostOptions, type StageDevice, type Workload } from '#flyweight/shard/stage-costs.js'
import { allAssignments, allCuts, workloads } from './workloads.js'

const devices = (count: number): StageDevice[] => Array.from({ length: count }, (_, index) => ({ name: `cpu:${index}` }))
const scoreOf = (work: Workload, assignment: readonly number[], options: CostOptions) => {
  const costs = stageCosts(work, assignment, options)
  const fits = costs.every(({ weightBytes }, stage) => weightBytes <= (options.devices[stage]?.budgetBytes ?? Infinity))
  return { ms: fits ? bottleneckMs(costs) : Infinity, bytes: crossingBytes(costs) }
}
function bestOf(work: Workload, assignments: Iterable<number[]>, options: CostOptions) {
  let best = { ms: Infinity, bytes: Infinity }
  for (const assignment of assignments) {
    const score = scoreOf(work, assignment, options)
    if (score.ms < best.ms - 1e-9 || (score.ms < best.ms + 1e-9 && score.bytes < best.bytes)) best = score
  }
  return best
}
const forward = ({ values }: Workload, assignment: readonly number[]) =>
  values.every(({ producer, consumers }) => producer === undefined || consumers.every((consumer) => assignment[consumer]! >= assignment[producer]!))

const links = fc.constantFrom(0, 0.01, 0.1)
const fields = (stages: number) => fc.array(fc.record({ name: fc.constant('d'), speed: fc.constantFrom(0.5, 1, 2) }), { minLength: stages, maxLength: stages })

/** A chain: one value from node to node. */
function chain(ms: readonly number[], bytes: readonly number[] = ms.map(() => 1), weights: readonly number[] = ms.map(() => 10)): Workload {
  return {
    nodes: ms.map((each, index) => ({ ms: each, weights: [index] })),
    weights,
    values: ms.map((_, index) => ({
      producer: index,
      consumers: index + 1 < ms.length ? [index + 1] : [],
      bytes: bytes[index]!,
      output: index + 1 === ms.length,
    })),
  }
}

describe('costs of stages', () => {
  it('count weights once a stage, and values once for every stage that takes them', () => {
    const work: Workload = {
      nodes: [
        { ms: 1, weights: [0] },
        { ms: 2, weights: [0, 1] },
        { ms: 4, weights: [1] },
        { ms: 8, weights: [] },
      ],
      weights: [100, 10],
      values: [
        { producer: undefined, consumers: [0, 2], bytes: 7, output: false },
        { producer: 0, consumers: [1, 2, 3], bytes: 5, output: false },
        { producer: 1, consumers: [2], bytes: 3, output: true },
        { producer: 2, consumers: [3], bytes: 2, output: false },
        { producer: 3, consumers: [], bytes: 1, output: true },
      ],
    }
    expect(stageCosts(work, [0, 0, 1, 2], { devices: [...devices(2), { name: 'gpu', speed: 4 }], msPerByte: 2 })).toEqual([
      { computeMs: 3, weightBytes: 110, inBytes: 7, outBytes: 8, transferMs: 30 },
      { computeMs: 4, weightBytes: 10, inBytes: 15, outBytes: 2, transferMs: 34 },
      { computeMs: 2, weightBytes: 0, inBytes: 7, outBytes: 1, transferMs: 16 },
    ])
  })
})

describe('cuts in order', () => {
  it.each([2, 3])('into %i are those of exhaustive search', (stages) => {
    fc.assert(
      fc.property(workloads({ most: 40 }), links, fields(stages), (work, msPerByte, onto) => {
        const options = { devices: onto, msPerByte }
        const found = scoreOf(work, chainCuts(work, options)!, options)
        const best = bestOf(work, allCuts(work.nodes.length, stages), options)
        expect(found.ms).toBeCloseTo(best.ms, 6)
        expect(found.bytes).toBe(best.bytes)
      }),
      { seed: 5, numRuns: 60 },
    )
  })

  it('of 200 nodes, too', () => {
    fc.assert(
      fc.property(workloads({ least: 200, most: 200 }), links, fields(3), (work, msPerByte, onto) => {
        const [two, three] = [
          { devices: onto.slice(1), msPerByte },
          { devices: onto, msPerByte },
        ]
        expect(scoreOf(work, chainCuts(work, two)!, two).ms).toBeCloseTo(bestOf(work, allCuts(200, 2), two).ms, 6)
        expect(scoreOf(work, chainCuts(work, three)!, three).ms).toBeCloseTo(bestOf(work, allCuts(200, 3), three).ms, 6)
      }),
      { seed: 6, numRuns: 2 },
    )
  })

  it('keep budgets where any cut does', () => {
    fc.assert(
      fc.property(workloads({ most: 25 }), fc.integer({ min: 100, max: 6000 }), (work, budgetBytes) => {
        const options = { devices: devices(3).map((device) => ({ ...device, budgetBytes })), msPerByte: 0.01 }
        const best = bestOf(work, allCuts(work.nodes.length, 3), options)
        const found = chainCuts(work, options)
        expect(found === undefined ? Infinity : scoreOf(work, found, options).ms).toBeCloseTo(best.ms, 6)
      }),
      { seed: 7, numRuns: 100 },
    )
  })

  it('are close to even, and where least passes, in chains of thousands', () => {
    const count = 4000
    const work = chain(
      new Array<number>(count).fill(1),
      Array.from({ length: count }, (_, index) => (index % 3 === 1 ? 1 : 100)),
    )
    const options = { devices: devices(4) }
    const costs = stageCosts(work, chainCuts(work, options)!, options)
    expect(bottleneckMs(costs)).toBeLessThan(1010)
    expect(crossingBytes(costs)).toBe(3)
  })
})

describe('partitions', () => {
  it('are forward, complete, and no worse than cuts in order', () => {
    fc.assert(
      fc.property(workloads({ most: 40, far: 8 }), links, fields(3), (work, msPerByte, onto) => {
        const options = { devices: onto, msPerByte }
        const assignment = partition(work, options)
        expect(forward(work, assignment)).toBe(true)
        expect(new Set(assignment).size).toBe(3)
        expect(scoreOf(work, assignment, options).ms).toBeLessThanOrEqual(scoreOf(work, chainCuts(work, options)!, options).ms + 1e-9)
      }),
      { seed: 8, numRuns: 60 },
    )
  })

  it('are nearly as good as the best of all assignments', () => {
    const ratios: number[] = []
    fc.assert(
      fc.property(workloads({ most: 9, least: 5, far: 6 }), fc.constantFrom(2, 3), links, (work, stages, msPerByte) => {
        const options = { devices: devices(stages), msPerByte }
        const best = bestOf(work, allAssignments(work, stages), options)
        const { ms } = scoreOf(work, partition(work, options), options)
        ratios.push(best.ms === 0 ? 1 : ms / best.ms)
        expect(ms).toBeGreaterThanOrEqual(best.ms - 1e-9)
      }),
      { seed: 9, numRuns: 300 },
    )
    expect(Math.max(...ratios)).toBeLessThan(1.05)
    expect(ratios.filter((ratio) => ratio < 1 + 1e-6).length).toBeGreaterThan(0.95 * ratios.length)
  })

  it('balance branches that lie side by side, whatever their order', () => {
    // Two branches of a long and a short node each, alternating: no cut in this order is even.
    const branch = (start: number) => [start, start + 2]
    const work: Workload = {
      nodes: [8, 8, 2, 2].map((ms) => ({ ms, weights: [] })),
      weights: [],
      values: [0, 1].flatMap((start) => [
        { producer: start, consumers: [branch(start)[1]!], bytes: 1, output: false },
        { producer: start + 2, consumers: [], bytes: 1, output: true },
      ]),
    }
    expect(bottleneckMs(stageCosts(work, partition(work, { devices: devices(2) }), { devices: devices(2) }))).toBe(10)
  })

  it('give a faster device more to do', () => {
    const work = chain([1, 1, 1, 1, 1, 1])
    expect(partition(work, { devices: [{ name: 'slow' }, { name: 'fast', speed: 2 }] })).toEqual([0, 0, 1, 1, 1, 1])
  })

  it('never part what cannot pass', () => {
    const work = chain([1, 1, 1, 1], [1, Infinity, 1, 1])
    expect(partition(work, { devices: devices(2) })).toEqual([0, 1, 1, 1])
    expect(() => partition(chain([1, 1], [Infinity, 1]), { devices: devices(2) })).toThrow('no cut into 2 stages leaves only tensors')
  })

  it('are refused where there are too few nodes, or too little room', () => {
    expect(() => partition(chain([1, 1]), { devices: devices(3) })).toThrow('the model has 2 nodes to place, fewer than the 3 stages asked for')
    const small = devices(2).map((device) => ({ ...device, budgetBytes: 25 }))
    expect(() => partition(chain([1, 1, 1, 1, 1]), { devices: small })).toThrow(
      "the model's weights, 50 bytes, do not fit 2 stages: where they exceed the budgets least, cpu:0 would have to hold 20 bytes of weights; cpu:1 would have to hold 30 bytes of weights, its budget is 25",
    )
  })
})
