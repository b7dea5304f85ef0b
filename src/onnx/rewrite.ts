// Table-driven graph rewriting: rules say what to look for and what to put there; this file walks the
// graphs (subgraphs too), keeps the order valid, drops dead nodes and proves that no name dangles.
import { subgraphs } from './attributes.js'
import { GraphIndex, usedTensors } from './graph.js'
import { nodeNames, tensorNames, type NameNodes } from './names.js'
import type { GraphProto, ModelProto, NodeProto, TensorProto } from './proto.js'

/** What one match becomes. `remove` defaults to the matched node; names it wrote that others read must be written again. */
export interface Replacement {
  nodes?: readonly NodeProto[]
  initializers?: readonly TensorProto[]
  remove?: readonly NodeProto[]
}

export interface RewriteContext {
  node: NodeProto
  index: GraphIndex
  /** A tensor name that nothing in the model has, derived from `base`. New nodes are given unique names by themselves. */
  uniqueName: (base: string) => string
}

export interface RewriteRule<Binding = unknown> {
  name: string
  /** Only nodes of this operator (in ai.onnx) are offered to `match`; absent: all nodes. */
  opType?: string | readonly string[]
  /** What was recognised around `node`, or undefined. Must not change anything. */
  match: (node: NodeProto, index: GraphIndex) => Binding | undefined
  /** Builds the replacement; must not change existing nodes. After it the rule must not match there again. */
  apply: (binding: Binding, context: RewriteContext) => Replacement
}

/** Lets a table hold rules of different bindings. */
export function rule<Binding>(definition: RewriteRule<Binding>): RewriteRule {
  return definition as RewriteRule
}

// Rules that undo each other would never end.
const MAX_SWEEPS = 1000

/**
 * Applies `rules` to every graph of `model`, in place, until none matches, and drops dead nodes.
 * Deterministic: nodes in graph order, rules in table order. Returns how often each rule was applied.
 * @throws Error when rules do not settle or leave a name dangling: a defect of the rules, not of the model.
 */
export function rewrite(model: ModelProto & { graph: GraphProto }, rules: readonly RewriteRule[]): Record<string, number> {
  const counts: Record<string, number> = Object.fromEntries(rules.map(({ name }) => [name, 0]))
  const run = { rules, counts, uniqueName: tensorNames(model), nameNodes: nodeNames(model) }
  removeDeadNodes(model)
  // A dead reader can hide a match ("nothing else reads it"), so look again once it is gone.
  do rewriteGraph(model.graph, undefined, run)
  while (removeDeadNodes(model) > 0)
  checkNames(model)
  return counts
}

/** Drops nodes whose outputs nothing reads, and initializers and value infos that belong to nothing. In place; returns the nodes dropped. */
export function removeDeadNodes(model: ModelProto & { graph: GraphProto }): number {
  return removeDead(model.graph)
}

interface Run {
  rules: readonly RewriteRule[]
  counts: Record<string, number>
  uniqueName: (base: string) => string
  nameNodes: NameNodes
}

function rewriteGraph(graph: GraphProto, outer: GraphIndex | undefined, run: Run): void {
  for (let sweeps = 0; sweep(graph, outer, run); sweeps++) {
    if (sweeps === MAX_SWEEPS) throw new Error(`rewrite rules do not settle: ${Object.keys(run.counts).join(', ')}`)
  }
  const index = new GraphIndex(graph, outer)
  for (const node of graph.node) for (const inner of subgraphs(node)) rewriteGraph(inner, index, run)
}

/** One pass over the nodes against one snapshot; a match that overlaps an earlier one of the pass waits for the next. */
function sweep(graph: GraphProto, outer: GraphIndex | undefined, run: Run): boolean {
  const index = new GraphIndex(graph, outer)
  const removed = new Set<NodeProto>()
  const touched = new Set<string>()
  const added = new Map<NodeProto, readonly NodeProto[]>()
  let changed = false
  for (const node of graph.node) {
    for (const candidate of run.rules) {
      if (removed.has(node) || !offered(candidate, node)) continue
      const binding = candidate.match(node, index)
      if (binding === undefined) continue
      const replacement = candidate.apply(binding, { node, index, uniqueName: run.uniqueName })
      const { nodes = [], initializers = [], remove = [node] } = replacement
      const tensors = [...remove, ...nodes].flatMap((one) => [...usedTensors(one), ...one.output]).filter((name) => index.producer(name) !== undefined)
      changed = true
      if (remove.some((one) => removed.has(one)) || tensors.some((name) => touched.has(name))) break
      for (const one of remove) removed.add(one)
      for (const name of tensors) touched.add(name)
      run.nameNodes(remove, nodes)
      added.set(node, nodes)
      graph.initializer.push(...initializers)
      run.counts[candidate.name] = (run.counts[candidate.name] ?? 0) + 1
      break
    }
  }
  if (added.size > 0) {
    graph.node = sorted(graph.node.flatMap((node) => [...(removed.has(node) ? [] : [node]), ...(added.get(node) ?? [])]))
  }
  return changed
}

function offered(candidate: RewriteRule, node: NodeProto): boolean {
  if (candidate.opType === undefined) return true
  if (node.domain !== '' && node.domain !== 'ai.onnx') return false
  return typeof candidate.opType === 'string' ? candidate.opType === node.opType : candidate.opType.includes(node.opType)
}

/** Producers before consumers; otherwise the order given (depth first, so a new node lands right before its first reader). */
function sorted(nodes: readonly NodeProto[]): NodeProto[] {
  const producers = new Map(nodes.flatMap((node) => node.output.filter((name) => name !== '').map((name) => [name, node] as const)))
  const result: NodeProto[] = []
  const state = new Map<NodeProto, 'open' | 'done'>()
  for (const root of nodes) {
    // An explicit stack: chains of thousands of nodes must not overflow the call stack.
    const stack = [root]
    for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
      if (state.get(node) === 'done') {
        stack.pop()
        continue
      }
      const pending = [...usedTensors(node)].map((name) => producers.get(name)).filter((one) => one !== undefined && state.get(one) !== 'done')
      if (pending.length === 0) {
        state.set(node, 'done')
        result.push(node)
        stack.pop()
      } else if (state.get(node) === 'open') {
        throw new Error(`rewriting made a cycle at node "${node.name}" (${node.opType})`)
      } else {
        state.set(node, 'open')
        for (const one of pending.reverse()) stack.push(one as NodeProto)
      }
    }
  }
  return result
}

function removeDead(graph: GraphProto): number {
  let dropped = 0
  const live = new Set(graph.output.map(({ name }) => name))
  const kept: NodeProto[] = []
  for (const node of graph.node.toReversed()) {
    if (!node.output.some((name) => live.has(name))) {
      dropped++
      continue
    }
    for (const inner of subgraphs(node)) dropped += removeDead(inner)
    for (const name of usedTensors(node)) live.add(name)
    kept.push(node)
  }
  graph.node = kept.reverse()
  const unused = new Set(graph.initializer.filter(({ name }) => !live.has(name)).map(({ name }) => name))
  graph.initializer = graph.initializer.filter(({ name }) => !unused.has(name))
  graph.input = graph.input.filter(({ name }) => !unused.has(name))
  const written = new Set(graph.node.flatMap(({ output }) => output))
  graph.valueInfo = graph.valueInfo.filter(({ name }) => written.has(name))
  return dropped
}

function checkNames(model: ModelProto & { graph: GraphProto }): void {
  const walk = (graph: GraphProto, outer: ReadonlySet<string>): void => {
    const known = new Set([...outer, ...graph.input.map(({ name }) => name), ...graph.initializer.map(({ name }) => name)])
    for (const { values } of graph.sparseInitializer) known.add(values?.name ?? '')
    for (const node of graph.node) {
      const dangling = node.input.find((name) => name !== '' && !known.has(name))
      if (dangling !== undefined) throw new Error(`after rewriting, node "${node.name}" (${node.opType}) reads "${dangling}", which nothing writes before it`)
      for (const inner of subgraphs(node)) walk(inner, known)
      for (const name of node.output) known.add(name)
    }
    const missing = graph.output.find(({ name }) => !known.has(name))
    if (missing) throw new Error(`after rewriting, graph output "${missing.name}" is written by nothing`)
  }
  walk(model.graph, new Set())
}
