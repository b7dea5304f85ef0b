// Which blocks are computed in parts, and when: blocks that depend on each other come one level after the other. What
// no block computes is computed at the earliest level that has what it needs, in each part that reads it. Pure.
import { usedTensors } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import type { Dataflow } from '../dataflow.js'
import type { UnitRange } from './axis-split.js'
import type { Block, BlockContext } from './block.js'

export interface PlacedBlock extends Block {
  level: number
  /** One a part, on the first devices. */
  shares: readonly UnitRange[]
  /** What its parts give, one a part. */
  partials: readonly string[]
  /** Additions after a sum, which the first part does to its own share: biases, and what goes around the block. */
  absorbed: readonly NodeProto[]
}

export interface Layout {
  blocks: readonly PlacedBlock[]
  /** From 0 on; the last is that of what is computed after all blocks. */
  levels: number
  /** The level at which a tensor is there, whole. Those of blocks count from the next level on. */
  levelOf(tensor: string): number
}

/** Blocks without common nodes: those with the most bytes of weights first; of equals, the first. */
export function disjointBlocks(blocks: readonly Block[], bytesOf: (block: Block) => number, isConstant: BlockContext['isConstant']): Block[] {
  const taken = new Set<NodeProto>()
  const own = (block: Block) => [...block.nodes].filter((node) => !node.output.some(isConstant))
  return blocks
    .map((block, index) => ({ block, index, sum: block.join.kind === 'sum' ? 1 : 0, bytes: bytesOf(block) }))
    .sort((a, b) => b.sum - a.sum || b.bytes - a.bytes || a.index - b.index)
    .filter(({ block }) => {
      if (own(block).some((node) => taken.has(node))) return false
      for (const node of own(block)) taken.add(node)
      return true
    })
    .map(({ block }) => block)
}

export interface LayoutOptions extends Pick<BlockContext, 'index' | 'shapes'> {
  flow: Dataflow
  /** @param turn of the block: what does not divide should not always go to the same devices */
  sharesOf(block: Block, turn: number): UnitRange[]
  uniqueName(base: string): string
}

export function layOut(chosen: readonly Block[], { flow, index, shapes, sharesOf, uniqueName }: LayoutOptions): Layout {
  const blockOf = new Map(chosen.flatMap((block) => [...block.nodes].map((node) => [node, block] as const)))
  const writers = new Map<string, Block>(chosen.map((block) => [block.output, block]))
  const levels = new Map<string, number>()
  const known = (tensor: string) => flow.constants.has(tensor) || index.producer(tensor) === undefined || levels.has(tensor)
  const levelOf = (tensor: string) => levels.get(tensor) ?? 0
  const after = (tensors: Iterable<string>) => Math.max(0, ...[...tensors].map(levelOf))
  const done = new Set<NodeProto>()

  /** Additions that follow a sum and are its only reader, of tensors that are there by the time it is computed. */
  const additions = (block: Block, level: number): NodeProto[] => {
    const found: NodeProto[] = []
    for (let output = block.output; block.join.kind === 'sum' && !index.isOutput(output); output = found.at(-1)!.output[0] as string) {
      const [reader, ...others] = index.consumers(output)
      if (reader?.opType !== 'Add' || others.length > 0 || blockOf.has(reader)) break
      const other = reader.input.find((name) => name !== output)
      if (other === undefined || !known(other) || levelOf(other) > level) break
      if (String(shapes.dims(reader.output[0] as string)) !== String(shapes.dims(output))) break
      found.push(reader)
    }
    return found
  }

  const blocks: PlacedBlock[] = []
  for (const node of flow.nodes) {
    const block = blockOf.get(node)
    if (done.has(node) || (block !== undefined && writers.get(node.output[0] as string) !== block)) continue
    if (block === undefined) {
      const level = after(usedTensors(node))
      for (const name of node.output) levels.set(name, level)
      continue
    }
    const level = after(block.reads)
    const absorbed = additions(block, level)
    for (const one of absorbed) done.add(one)
    const output = absorbed.at(-1)?.output[0] ?? block.output
    levels.set(output, level + 1)
    const shares = sharesOf(block, blocks.length)
    const partials = shares.length === 1 ? [output] : shares.map((_, part) => uniqueName(`${output}.part-${part}`))
    blocks.push({ ...block, output, level, shares, partials, absorbed })
  }
  return { blocks, levels: 1 + Math.max(0, ...blocks.map(({ level }) => level + 1)), levelOf }
}
