// Stages by hand: by tensors to cut after, or by patterns of node names. Says what is unknown, empty, or would go backward.
import { FlyweightError } from '../errors.js'
import type { NodeProto } from '../onnx/proto.js'
import type { Dataflow } from './dataflow.js'
import { checkForward, labelOf } from './stages.js'

/**
 * One stage more than cuts. A cut puts the node that writes its tensor, and all that this node needs, into its stage or
 * an earlier one; what is left goes to the last.
 * @throws FlyweightError `invalid_plan` for a tensor that no node writes, or one that an earlier cut needs already
 */
export function stagesByCuts(flow: Dataflow, cuts: readonly string[]): number[] {
  const { nodes } = flow
  const writers = new Map(nodes.flatMap(({ output }, index) => output.map((name) => [name, index] as const)))
  const before = sourcesOf(flow)
  const assignment = new Array<number | undefined>(nodes.length).fill(undefined)
  for (const [stage, cut] of cuts.entries()) {
    const writer = writers.get(cut)
    if (writer === undefined)
      throw new FlyweightError('invalid_plan', `cut "${cut}": got a name that no node to place writes, expected one of its outputs${near(cut, writers.keys())}`)
    if (assignment[writer] !== undefined) {
      throw new FlyweightError(
        'invalid_plan',
        `cut "${cut}" comes before cut "${cuts[assignment[writer]]}" or with it, expected cuts in the order of the graph`,
      )
    }
    const waiting = [writer]
    for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
      if (assignment[node] !== undefined) continue
      assignment[node] = stage
      waiting.push(...before[node]!)
    }
  }
  const found = assignment.map((stage) => stage ?? cuts.length)
  if (!found.includes(cuts.length)) throw new FlyweightError('invalid_plan', `cut "${cuts.at(-1)}" leaves nothing for the stage after it`)
  return found
}

/**
 * The stage whose patterns (`*` stands for anything) match a node's name, or the first tensor it writes where it has
 * none. A node that none matches goes where the latest of what it reads comes from, or to the first stage.
 * @throws FlyweightError `invalid_plan` for a pattern that matches nothing, a node in two stages, an empty stage, and values that would go backward
 */
export function stagesByPatterns(flow: Dataflow, stages: readonly (readonly string[])[]): number[] {
  const { nodes } = flow
  const chosen = new Map<number, number>()
  for (const [stage, patterns] of stages.entries()) {
    for (const pattern of patterns) {
      const matches = matcher(pattern)
      const matched = nodes.flatMap((node, index) => (matches(nameOf(node)) ? [index] : []))
      if (matched.length === 0) {
        throw new FlyweightError('invalid_plan', `stage ${stage}: pattern "${pattern}" matches no node to place${near(pattern, nodes.map(nameOf))}`)
      }
      for (const index of matched) {
        const other = chosen.get(index) ?? stage
        if (other !== stage) throw new FlyweightError('invalid_plan', `${labelOf(nodes[index]!)} is in stage ${other} and, by "${pattern}", in stage ${stage}`)
        chosen.set(index, stage)
      }
    }
  }
  const before = sourcesOf(flow)
  const assignment: number[] = []
  for (const index of nodes.keys()) assignment.push(chosen.get(index) ?? Math.max(0, ...before[index]!.map((other) => assignment[other]!)))
  const empty = stages.findIndex((_, stage) => !assignment.includes(stage))
  if (empty >= 0) throw new FlyweightError('invalid_plan', `stage ${empty} has no nodes`)
  checkForward(flow, assignment)
  return assignment
}

/** Per node those that it reads from. */
function sourcesOf({ nodes, values }: Dataflow): number[][] {
  const before = nodes.map((): number[] => [])
  for (const { producer, consumers } of values) if (producer !== undefined) for (const consumer of consumers) before[consumer]?.push(producer)
  return before
}

function nameOf({ name, output }: NodeProto): string {
  return name || (output[0] ?? '')
}

function matcher(pattern: string): (name: string) => boolean {
  const expression = new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
      .join('.*')}$`,
    's',
  )
  return (name) => expression.test(name)
}

/** Names that contain what was asked for, or else the first few. */
function near(asked: string, names: Iterable<string>): string {
  const all = [...names].filter((name) => name !== '')
  const wanted = asked.replaceAll('*', '').toLowerCase()
  const similar = all.filter((name) => name.toLowerCase().includes(wanted))
  return `, such as ${(similar.length > 0 ? similar : all)
    .slice(0, 3)
    .map((name) => `"${name}"`)
    .join(', ')}`
}
