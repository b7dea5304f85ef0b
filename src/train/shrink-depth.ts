// A shallower model from a deep one: residual blocks, x → … → Add(x, …), that follow each other are found, and some are
// left out, evenly spread; what stays keeps its weights. As Sanh et al., "DistilBERT" (2019), start their student.
import { node as makeNode } from '../onnx/builder.js'
import { GraphIndex } from '../onnx/graph.js'
import { structuralCopy, type NodeProto } from '../onnx/proto.js'
import { removeDeadNodes } from '../onnx/rewrite.js'
import { elementCount } from '../tensor/tensor.js'
import type { Tensors } from './gradient.js'
import { optionError } from './options.js'
import type { Model } from './training-form.js'

export interface ShrunkDepth {
  model: Model
  /** Names of the tensors that the blocks left out gave. */
  dropped: readonly string[]
  /** Blocks there were. */
  blocks: number
}

/** A block can be left out by reading `from` where `to` was read. */
interface Block {
  from: string
  to: string
  /** Operators in between: blocks of one kind have the same. */
  kind: string
}

/** Operators that may stand between a block's Add and the next block, as in BERT and ResNet. */
const AFTERWARDS: ReadonlySet<string> = new Set(['Clip', 'Dropout', 'Elu', 'Gelu', 'HardSwish', 'LayerNormalization', 'LeakyRelu', 'Relu'])
/** What reads sizes does not compute with values. */
const SIZES: ReadonlySet<string> = new Set(['Shape', 'Size'])

/**
 * @param dims of the model's tensors for any one input
 * @param depth share of the repeated blocks that stays, 0 to 1; at least one does
 * @throws FlyweightError `invalid_input` that says what was found, for a model without enough repeated blocks
 */
export function shrinkDepth(model: Model, dims: Tensors['dims'], depth: number, pointer = '/student/depth'): ShrunkDepth {
  const units = chainsOf(residualBlocks(model, dims)).flatMap(unitsOf)
  const kept = Math.max(1, Math.round(units.length * depth))
  if (kept >= units.length) {
    const sums = model.graph.node.filter(({ opType }) => opType === 'Add').length
    const found = units.length === 0 ? `none among ${sums} Add nodes` : `${units.length}: ${units.map((unit) => `"${unit.at(-1)?.to}"`).join(', ')}`
    throw optionError(pointer, `got ${depth}, expected residual blocks, x → … → Add(x, …) with weights in between, of which some can go; found ${found}`)
  }
  const stays = new Set(Array.from({ length: kept }, (_, index) => (kept === 1 ? 0 : Math.round((index * (units.length - 1)) / (kept - 1)))))
  const dropped = units.filter((_, index) => !stays.has(index)).flat()
  return { model: bypass(model, dropped), dropped: dropped.map(({ to }) => to), blocks: units.length }
}

/** Innermost residual blocks, in the order of the graph. */
function residualBlocks({ graph }: Model, dims: Tensors['dims']): Block[] {
  const index = new GraphIndex(graph)
  const found = graph.node.flatMap((add) => {
    const [a = '', b = ''] = add.input
    const to = add.output[0] ?? ''
    if (add.opType !== 'Add' || [a, b].some((name) => index.constantProto(name) !== undefined)) return []
    const skips = [
      [a, b],
      [b, a],
    ] as const
    for (const [from, computed] of skips) {
      const body = between(index, from, computed)
      if (body === undefined || !sameDims(dims(from), dims(to)) || !body.some((node) => isWeighted(index, node))) continue
      return [{ from, to: endOf(index, { from, to }), kind: body.map(({ opType }) => opType).join(' '), add, body }]
    }
    return []
  })
  const adds = new Set(found.map(({ add }) => add))
  return found.filter(({ body }) => !body.some((node) => adds.has(node)))
}

/** The nodes that lead from one tensor to another, in the order of the graph; undefined where none do. */
function between(index: GraphIndex, from: string, to: string): NodeProto[] | undefined {
  const above = new Set<NodeProto>()
  const pending = [to]
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const node = name === from ? undefined : index.producer(name)
    if (node === undefined || above.has(node) || SIZES.has(node.opType)) continue
    above.add(node)
    pending.push(...node.input)
  }
  const reached = new Set([from])
  const body = index.graph.node.filter((node) => {
    if (!above.has(node) || !node.input.some((name) => reached.has(name))) return false
    for (const name of node.output) reached.add(name)
    return true
  })
  return reached.has(to) && to !== from ? body : undefined
}

function sameDims(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((size, axis) => size === other[axis])
}

/** Whether a node multiplies by weights: what has none, as an approximation of Gelu, is no block. */
function isWeighted(index: GraphIndex, { opType, input }: NodeProto): boolean {
  if (!['Conv', 'Gemm', 'MatMul'].includes(opType)) return false
  return input.some((name) => elementCount((index.constantProto(name)?.dims ?? []).map(Number)) > 1)
}

/** Where a block ends: behind what follows its Add, if the block began behind the same operator. */
function endOf(index: GraphIndex, { from, to }: { from: string; to: string }): string {
  const before = index.producer(from)?.opType ?? ''
  for (let at = to; ; ) {
    const [next, ...others] = index.consumers(at)
    if (next === undefined || others.length > 0 || !AFTERWARDS.has(next.opType) || index.isOutput(at)) return to
    at = next.output[0] as string
    if (next.opType === before) return at
  }
}

/** Blocks that follow each other without anything in between. */
function chainsOf(blocks: readonly Block[]): Block[][] {
  const chains: Block[][] = []
  for (const block of blocks) {
    const chain = chains.find((known) => known.at(-1)?.to === block.from)
    if (chain === undefined) chains.push([block])
    else chain.push(block)
  }
  return chains
}

/**
 * A chain as its repeated parts: those of a transformer are attention and perceptron together. The shortest period of
 * kinds tells; where there is none the chain is one part.
 */
function unitsOf(chain: readonly Block[]): Block[][] {
  let period = 1
  while (chain.some(({ kind }, index) => index >= period && kind !== chain[index - period]?.kind)) period++
  return Array.from({ length: Math.ceil(chain.length / period) }, (_, unit) => chain.slice(unit * period, (unit + 1) * period))
}

function bypass(model: Model, dropped: readonly Block[]): Model {
  const shallower = structuralCopy(model)
  const { graph } = shallower
  const source = new Map(dropped.map(({ from, to }) => [to, from]))
  const origin = (name: string): string => (source.has(name) ? origin(source.get(name) as string) : name)
  for (const node of graph.node) node.input = node.input.map(origin)
  const outputs = new Set(graph.output.map(({ name }) => name))
  const written = [...source.keys()].filter((name) => outputs.has(name))
  graph.node = [
    ...graph.node.filter(({ output }) => !output.some((name) => written.includes(name))),
    ...written.map((name) => makeNode('Identity', [origin(name)], [name])),
  ]
  removeDeadNodes(shallower)
  return shallower
}
