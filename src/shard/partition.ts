// Which node goes to which stage: the best cuts in the model's order and in others that follow branches to their ends,
// then refined node by node. Pure policy; what nodes and values cost is measured by measure.ts.
import { FlyweightError } from '../errors.js'
import { mulberry32 } from '../runtime/sample-inputs.js'
import { chainCuts, smallestCuts } from './chain-cuts.js'
import { refined } from './refine.js'
import { bottleneckMs, crossingBytes, stageCosts, type CostOptions, type Workload } from './stage-costs.js'

/** Random orders tried at most, and the square of the nodes times them. */
const MOST_ORDERS = 24
const MOST_WORK = 1e6

/**
 * The stage of each node, one a device. The slowest stage, transfers included, is as fast as can be found; of equals the
 * one with the fewest bytes handed to stages.
 * @throws FlyweightError `invalid_plan` where there are fewer nodes than stages, or the weights do not fit, saying what would be needed
 */
export function partition(work: Workload, options: CostOptions): number[] {
  const count = options.devices.length
  if (work.nodes.length < count) {
    throw new FlyweightError('invalid_plan', `the model has ${work.nodes.length} nodes to place, fewer than the ${count} stages asked for`)
  }
  const found = [...orders(work)].flatMap((order) => {
    const cuts = chainCuts(inOrder(work, order), options)
    if (cuts === undefined) return []
    const assignment = new Array<number>(order.length)
    for (const [position, node] of order.entries()) assignment[node] = cuts[position] as number
    return [refined(work, assignment, options)]
  })
  const best = found.map((assignment) => ({ assignment, costs: stageCosts(work, assignment, options) }))
  best.sort((a, b) => bottleneckMs(a.costs) - bottleneckMs(b.costs) || crossingBytes(a.costs) - crossingBytes(b.costs))
  if (best[0] !== undefined) return best[0].assignment
  throw new FlyweightError('invalid_plan', shortfall(work, options))
}

/** The given order, one that finishes a branch before it begins another, and others that choose among branches at random, the same each time. */
function* orders(work: Workload): Generator<number[]> {
  yield [...work.nodes.keys()]
  yield depthFirst(work, (node) => node)
  const random = mulberry32(1)
  for (let count = Math.min(MOST_ORDERS, Math.floor(MOST_WORK / work.nodes.length ** 2)); count > 0; count--) {
    const keys = work.nodes.map(random)
    yield depthFirst(work, (node) => keys[node] as number)
  }
}

/** An order in which every node comes soon after what it reads; of several, that of least `key` first. */
function depthFirst({ nodes, values }: Workload, key: (node: number) => number): number[] {
  const before = nodes.map((): number[] => [])
  for (const { producer, consumers } of values) if (producer !== undefined) for (const consumer of consumers) before[consumer]?.push(producer)
  const order: number[] = []
  const [open, done] = [new Set<number>(), new Set<number>()]
  const lastFirst = (list: readonly number[]) => [...list].sort((a, b) => key(b) - key(a))
  const stack = lastFirst([...nodes.keys()])
  for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
    if (open.has(node)) {
      stack.pop()
      if (!done.has(node)) order.push(node)
      done.add(node)
    } else {
      open.add(node)
      stack.push(...lastFirst(before[node]!.filter((other) => !open.has(other))))
    }
  }
  return order
}

/** The same work with its nodes in another order. */
function inOrder({ nodes, weights, values }: Workload, order: readonly number[]): Workload {
  const place = new Map(order.map((node, position) => [node, position]))
  return {
    nodes: order.map((node) => nodes[node]!),
    weights,
    values: values.map(({ producer, consumers, ...value }) => ({
      ...value,
      producer: producer === undefined ? undefined : place.get(producer),
      consumers: consumers.map((consumer) => place.get(consumer) as number).sort((a, b) => a - b),
    })),
  }
}

function shortfall(work: Workload, options: CostOptions): string {
  const { devices } = options
  const assignment = smallestCuts(work, options)
  if (assignment === undefined) return `no cut into ${devices.length} stages leaves only tensors to pass between them`
  const needed = stageCosts(work, assignment, options).map(({ weightBytes }, stage) => {
    const { name, budgetBytes = Infinity } = devices[stage]!
    return `${name} would have to hold ${weightBytes} bytes of weights${weightBytes > budgetBytes ? `, its budget is ${budgetBytes}` : ''}`
  })
  const total = work.weights.reduce((sum, bytes) => sum + bytes, 0)
  return `the model's weights, ${total} bytes, do not fit ${devices.length} stages: where they exceed the budgets least, ${needed.join('; ')}`
}
