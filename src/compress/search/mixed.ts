// Mixed precision: which nodes of a quantized model are better left in float, because they are slower in integers or
// because they make most of the error. Pure but for the measurements it is given.
import type { GraphProto } from '../../onnx/proto.js'
import type { NodeTime } from '../../runtime/node-times.js'
import { labelOf } from '../passes/decisions.js'
import { GraphIndex } from '../../onnx/graph.js'
import { parseRecipe, recipeName } from '../recipe.js'

/** Groups of about equal cost that are looked at first, and how often one is divided further. */
const [FIRST_GROUPS, MOST_DIVISIONS] = [4, 8]
/** Shares of the error whose nodes are worth a trial in float. */
const WANTED_SHARES = [0.5, 0.8, 0.95]
/** An integer kernel must be this much faster than the float one to make up for the conversions around it. */
const WORTHWHILE = 0.9

/** `recipe` with further nodes excluded from its last pass that can leave nodes in float. */
export function excluding(recipe: string, labels: readonly string[]): string {
  const steps = parseRecipe(recipe).recipe ?? []
  const last = steps.findLastIndex((step) => Array.isArray(step['exclude']))
  return recipeName(steps.map((step, index) => (index === last ? { ...step, exclude: [...new Set([...(step['exclude'] as string[]), ...labels])] } : step)))
}

/** Microseconds of what the runtime executed by the label of the node in `graph` that it came from, where that can be told. */
export function timesByLabel(times: readonly NodeTime[], graph: GraphProto): Map<string, number> {
  const index = new GraphIndex(graph)
  const labels = new Set(graph.node.map(labelOf))
  const found = new Map<string, number>()
  for (const { name, opType, microseconds } of times) {
    const label = labels.has(name) ? name : labelOfWriter(name, opType, index)
    if (label !== undefined) found.set(label, (found.get(label) ?? 0) + microseconds)
  }
  return found
}

/** Longest chain of nodes that the runtime merges into the one before them. */
const MOST_MERGED = 4

/** The node of kind `opType` that computes `tensor`, perhaps through nodes that were merged into it. */
function labelOfWriter(tensor: string, opType: string, index: GraphIndex): string | undefined {
  let writer = index.producer(tensor)
  for (let step = 0; writer !== undefined && step < MOST_MERGED; step++) {
    if (writer.opType === opType) return labelOf(writer)
    writer = index.producer(writer.input[0] ?? '')
  }
  return undefined
}

/** Quantized nodes that are no faster than before. */
export function slowNodes(quantized: readonly string[], before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string[] {
  return quantized.filter((label) => {
    const [float, integer] = [before.get(label), after.get(label)]
    return float !== undefined && integer !== undefined && integer > WORTHWHILE * float
  })
}

/** Divides nodes, in their order, into at most `most` groups of about equal cost; neighbours share their conversions. */
export function divideByCost(labels: readonly string[], costOf: (label: string) => number, most: number): string[][] {
  const total = labels.reduce((sum, label) => sum + costOf(label), 0)
  const groups: string[][] = []
  let before = 0
  for (const label of labels) {
    const position = total === 0 ? 0 : Math.min(most - 1, Math.floor((before / total) * most))
    const group = groups[position]
    if (group === undefined) groups[position] = [label]
    else group.push(label)
    before += costOf(label)
  }
  return groups.filter((group) => group !== undefined)
}

interface Leaf {
  labels: readonly string[]
  /** Error that the model has when only these nodes are quantized, beyond what it has when none is. */
  error: number
}

/**
 * Finds the nodes that make most of a quantized model's error, by quantizing groups of them alone and dividing the group
 * that makes most again and again: sets of nodes to exclude, which together make half of the error, or nearly all of it.
 * Errors of single groups add up as long as they are small, which those of leaving single groups out do not once the
 * outputs are ruined. `errorOf` gives the error with only these nodes quantized, or undefined when time is up.
 */
export async function sensitiveSets(
  quantized: readonly string[],
  costOf: (label: string) => number,
  errorOf: (labels: readonly string[]) => Promise<number | undefined>,
): Promise<string[][]> {
  const base = await errorOf([])
  if (base === undefined || !Number.isFinite(base)) return []
  const measured = async (groups: readonly string[][]): Promise<Leaf[] | undefined> => {
    const leaves: Leaf[] = []
    for (const labels of groups) {
      const error = await errorOf(labels)
      if (error === undefined) return undefined
      leaves.push({ labels, error: Math.max(0, error - base) })
    }
    return leaves
  }
  let leaves = await measured(divideByCost(quantized, costOf, FIRST_GROUPS))
  if (leaves === undefined) return []
  for (let division = 0; division < MOST_DIVISIONS; division++) {
    const [worst] = leaves.filter(({ labels }) => labels.length > 1).sort((a, b) => b.error - a.error)
    const halves: Leaf[] | undefined = worst === undefined || worst.error === 0 ? undefined : await measured(halvesOf(worst.labels, costOf))
    if (halves === undefined) break
    leaves = [...leaves.filter((leaf) => leaf !== worst), ...halves]
  }
  return setsOf(leaves, costOf).filter((set) => set.length < quantized.length)
}

function halvesOf(labels: readonly string[], costOf: (label: string) => number): string[][] {
  const halves = divideByCost(labels, costOf, 2)
  const middle = Math.ceil(labels.length / 2)
  return halves.length === 2 ? halves : [labels.slice(0, middle), labels.slice(middle)]
}

/** The groups with most error for their cost, until they make each of the wanted shares. */
function setsOf(leaves: readonly Leaf[], costOf: (label: string) => number): string[][] {
  const density = ({ labels, error }: Leaf) => error / (labels.reduce((sum, label) => sum + costOf(label), 0) + 1)
  const ranked = leaves.filter(({ error }) => error > 0).sort((a, b) => density(b) - density(a))
  const total = ranked.reduce((sum, { error }) => sum + error, 0)
  const sets: string[][] = []
  const set: string[] = []
  let error = 0
  for (const leaf of ranked) {
    set.push(...leaf.labels)
    const before = error / total
    error += leaf.error
    if (WANTED_SHARES.some((share) => before < share && error / total >= share)) sets.push([...set])
  }
  return sets
}
