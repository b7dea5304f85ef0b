// Random workloads: nodes in a valid order that read one or a few earlier ones, weights of their own or shared, and
// values of various sizes.
import fc from 'fast-check'
import type { Workload } from '#flyweight/shard/stage-costs.js'

/** @param far how many nodes back a node may read */
export function workloads({ most, least = 4, far = 4 }: { most: number; least?: number; far?: number }): fc.Arbitrary<Workload> {
  const node = fc.record({
    ms: fc.integer({ min: 0, max: 100 }),
    bytes: fc.integer({ min: 1, max: 1000 }),
    reads: fc.uniqueArray(fc.integer({ min: 1, max: far }), { minLength: 1, maxLength: 2 }),
    weight: fc.option(fc.integer({ min: 1, max: 1000 }), { freq: 2, nil: undefined }),
    shares: fc.boolean(),
  })
  return fc.array(node, { minLength: least, maxLength: most }).map((drawn) => {
    const weights: number[] = [50]
    const consumers = Array.from({ length: drawn.length + 1 }, (): number[] => [])
    const nodes = drawn.map(({ ms, reads, weight, shares }, index) => {
      // Entry 0 is the input of the whole, entry i + 1 what node i writes.
      for (const source of new Set(reads.map((back) => Math.max(0, index + 1 - back)))) consumers[source]?.push(index)
      const own = weight === undefined ? [] : [weights.push(weight) - 1]
      return { ms, weights: shares ? [0, ...own] : own }
    })
    const bytes = [100, ...drawn.map((each) => each.bytes)]
    const values = consumers.map((readers, entry) => ({
      producer: entry === 0 ? undefined : entry - 1,
      consumers: readers,
      bytes: bytes[entry] as number,
      output: readers.length === 0,
    }))
    return { nodes, weights, values }
  })
}

/** All ways to cut `count` nodes in order into stages that are not empty. */
export function* allCuts(count: number, stages: number): Generator<number[]> {
  function* ends(from: number, left: number): Generator<number[]> {
    if (left === 1) yield [count]
    else for (let end = from + 1; end <= count - left + 1; end++) for (const rest of ends(end, left - 1)) yield [end, ...rest]
  }
  for (const found of ends(0, stages)) yield Array.from({ length: count }, (_, index) => found.findIndex((end) => index < end))
}

/** All assignments whose values go forward and whose stages are not empty. */
export function* allAssignments({ nodes, values }: Workload, stages: number): Generator<number[]> {
  const before = nodes.map((_, index) => values.flatMap(({ producer, consumers }) => (producer !== undefined && consumers.includes(index) ? [producer] : [])))
  const state: number[] = []
  function* from(index: number): Generator<number[]> {
    if (index === nodes.length) {
      if (new Set(state).size === stages) yield [...state]
      return
    }
    for (let stage = Math.max(0, ...before[index]!.map((other) => state[other]!)); stage < stages; stage++) {
      state[index] = stage
      yield* from(index + 1)
    }
  }
  yield* from(0)
}
