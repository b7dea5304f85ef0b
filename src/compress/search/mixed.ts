// Mixed precision: which nodes of a quantized model are better left in float, because they are slower in integers or
// because they make most of the error. Pure but for the measurements it is given.
import type { GraphProto } from '../../onnx/proto.js'
import type { NodeTime } from '../../runtime/node-times.js'
import { labelOf } from '../passes/decisions.js'
import { GraphIndex } from '../../onnx/graph.js'
import { parseRecipe, recipeName } from '../recipe.js'

/** Groups of nodes that are left out one after the other, at most. */
const MOST_GROUPS = 6
/** A group that makes less than this share of the error is not worth the time it would take in float. */
const LEAST_SHARE = 0.1
/** Part of a group's share that a half must make for the other half to be left quantized. */
const NARROWING = 0.8
/** Error shares that are worth a trial each: beyond, little is left to gain. */
const MOST_PROPOSALS = 3
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

/**
 * Finds the nodes that make most of a quantized model's error, by leaving groups of them in float: sets of nodes to
 * exclude, from the one that gains most for its size to all that matter. `errorWithout` gives the error of the model
 * with those nodes in float, or undefined when time is up; errors add up, as the power of noise does.
 */
export async function sensitiveSets(
  quantized: readonly string[],
  costOf: (label: string) => number,
  errorWithout: (labels: readonly string[]) => Promise<number | undefined>,
): Promise<string[][]> {
  const whole = await errorWithout([])
  if (whole === undefined || !(whole > 0 && whole < Infinity)) return []
  const shareOf = async (labels: readonly string[]) => {
    const error = await errorWithout(labels)
    return error === undefined ? undefined : 1 - error / whole
  }
  const ranked: { labels: readonly string[]; share: number }[] = []
  for (const labels of divideByCost(quantized, costOf, MOST_GROUPS)) {
    const share = await shareOf(labels)
    if (share === undefined) break
    if (share >= LEAST_SHARE) ranked.push({ labels, share })
  }
  ranked.sort((a, b) => b.share - a.share)
  const sets: string[][] = []
  for (const group of ranked.slice(0, MOST_PROPOSALS)) sets.push([...(sets.at(-1) ?? []), ...(await narrowed(group, shareOf))])
  return sets
}

/** The half of a group that makes nearly all of its error, and the half of that, as long as there is one. */
async function narrowed(
  { labels, share }: { labels: readonly string[]; share: number },
  shareOf: (labels: readonly string[]) => Promise<number | undefined>,
): Promise<readonly string[]> {
  if (labels.length < 2) return labels
  const middle = Math.ceil(labels.length / 2)
  for (const half of [labels.slice(0, middle), labels.slice(middle)]) {
    const own = await shareOf(half)
    if (own === undefined) return labels
    if (own >= NARROWING * share) return narrowed({ labels: half, share: own }, shareOf)
  }
  return labels
}
