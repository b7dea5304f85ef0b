// Finds what devices can compute in parts: from a node that sums products back to those whose weights can be cut by
// columns, as Shoeybi et al. 2019 (Megatron-LM) split feed-forward and attention blocks; and single large layers.
import { usedTensors } from '../../onnx/graph.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'
import { covers, evenSplit, fixedSizes, sameSplit, type AxisSplit } from './axis-split.js'
import type { Block, BlockContext } from './block.js'
import { derivedNodes } from './derived.js'
import { demandOf, isElementwise, isStandard, summedAxes } from './rules.js'

/** All blocks that end in a sum, and single layers; they may overlap. In the graph's order, sums first. */
export function findBlocks(graph: GraphProto, context: BlockContext): Block[] {
  const nodes = graph.node.filter((node) => !node.output.some((name) => context.isConstant(name)))
  const sums = nodes.flatMap((node) => blockOfSum(node, context) ?? [])
  const layers = nodes.flatMap((node) => blockOfLayer(node, context) ?? [])
  return [...sums, ...layers]
}

function blockOfSum(node: NodeProto, context: BlockContext): Block | undefined {
  const axes = summedAxes(node, context.shapes)
  const [left, right] = node.input
  const dims = left === undefined ? undefined : context.shapes.dims(left)
  if (axes === undefined || dims === undefined || left === undefined || right === undefined || context.isConstant(left)) return undefined
  const size = dims[0]![axes[0]] as number
  return grown(size, context, {
    nodes: [node],
    seeds: (units) => [left, right].map((name, factor) => [name, evenSplit(axes[factor] as number, size, units, dims.length)]),
    output: node.output[0] as string,
    join: { kind: 'sum', at: node },
  })
}

const LAYERS = ['MatMul', 'Gemm', 'Conv', 'Gather']

/** One layer and the elementwise nodes after it. */
function blockOfLayer(node: NodeProto, context: BlockContext): Block | undefined {
  if (!isStandard(node) || !LAYERS.includes(node.opType)) return undefined
  const output = lastElementwise(node.output[0] as string, context)
  const dims = context.shapes.dims(output)
  const axis = node.opType === 'Conv' ? 1 : (dims?.[0]?.length ?? 0) - 1
  const size = dims?.[0]?.[axis]
  if (dims === undefined || size === undefined) return undefined
  return grown(size, context, {
    nodes: [],
    seeds: (units) => [[output, evenSplit(axis, size, units, dims.length)]],
    output,
    join: { kind: 'concat', axis },
  })
}

function lastElementwise(from: string, { index, isConstant }: BlockContext): string {
  let output = from
  for (;;) {
    const [reader, ...others] = index.consumers(output)
    const stays = index.isOutput(output) || others.length > 0 || reader === undefined || !isElementwise(reader) || reader.output.length > 1
    if (stays || reader.input.some((name) => name !== '' && name !== output && !isConstant(name))) return output
    output = reader.output[0] as string
  }
}

interface Start {
  nodes: readonly NodeProto[]
  seeds(units: number): [string, AxisSplit][]
  output: string
  join: Block['join']
}

/** Walks back from the seeds; begins again with fewer, larger units where only those pass a reshape. */
function grown(size: number, context: BlockContext, start: Start): Block | undefined {
  for (let units = size; units >= 2; ) {
    const result = walk(units, context, start)
    if (result === undefined || typeof result === 'object') return result
    units = result
  }
  return undefined
}

function walk(units: number, context: BlockContext, { nodes: first, seeds, output, join }: Start): Block | number | undefined {
  const { index, shapes, isConstant } = context
  const splits = new Map<string, AxisSplit>()
  const nodes = new Set(first)
  const weights: string[] = []
  const waiting = seeds(units)
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [tensor, split] = next
    const known = splits.get(tensor)
    if (known !== undefined) {
      if (!sameSplit(known, split)) return undefined
      continue
    }
    const dims = shapes.dims(tensor)
    if (dims === undefined || !covers(split, dims)) return undefined
    splits.set(tensor, split)
    if (index.constantProto(tensor) !== undefined) {
      if (fixedSizes(split) === undefined) return undefined
      weights.push(tensor)
      continue
    }
    const node = index.producer(tensor)
    if (node === undefined || (index.isOutput(tensor) && tensor !== output)) return undefined
    const demand = demandOf(node, split, shapes)
    if (demand === undefined) return undefined
    if ('units' in demand) return demand.units
    nodes.add(node)
    for (const [position, wanted] of demand.inputs.entries()) {
      const name = node.input[position]
      if (wanted !== undefined && name) waiting.push([name, wanted])
    }
  }
  if (!weights.some((name) => shapes.dims(name)![0]!.length > 1)) return undefined
  const block = { nodes, splits, units, output, join, weights }
  if (!derivedNodes(block, context)) return undefined
  if (![...nodes].every((node) => readsAsDemanded(node, block, context))) return undefined
  const written = new Set([...nodes].flatMap((node) => node.output))
  const reads = [...new Set([...nodes].flatMap((node) => [...usedTensors(node)]))].filter((name) => !written.has(name) && !isConstant(name))
  return { ...block, nodes: new Set(index.graph.node.filter((node) => nodes.has(node))), reads }
}

/** What a node reads whole must not be cut for another, and all it writes must be cut or unread. */
function readsAsDemanded(node: NodeProto, { splits, join }: Pick<Block, 'splits' | 'join'>, { index, shapes }: BlockContext): boolean {
  const split = node.output.map((name) => splits.get(name)).find((each) => each !== undefined)
  if (split === undefined) return true
  if (join.kind === 'sum' && join.at === node) return false
  if (node.output.some((name) => !splits.has(name) && index.consumers(name).length > 0)) return false
  const demand = demandOf(node, split, shapes)
  return demand !== undefined && 'inputs' in demand && node.input.every((name, position) => (demand.inputs[position] !== undefined) === splits.has(name))
}
