// A model as stages of two kinds of neighbours: those of one rank read the same values and may run at once, one a
// device; those of the next rank add up, each for itself, what all of these gave.
import { usedTensors } from '../../onnx/graph.js'
import { node as makeNode } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import { shallowCopy, TensorShapeProto_DimensionSchema, create } from '../../onnx/proto.js'
import type { GraphProto, ModelProto, NodeProto, ValueInfoProto } from '../../onnx/proto.js'
import { FlyweightError } from '../../errors.js'
import { constantsFor, type Dataflow } from '../dataflow.js'
import { heldBytes, storedBytes } from '../weight-bytes.js'
import type { Stage } from '../stages.js'
import { shareUnits } from './axis-split.js'
import type { Block, BlockContext } from './block.js'
import { layOut, type Layout, type PlacedBlock } from './layout.js'
import { partNodes } from './part-nodes.js'
import { partSize } from './slice-weights.js'

type Model = ModelProto & { graph: GraphProto }

/** A stage of a model in parts, before its weights are cut. */
export interface PartStage extends Omit<Stage, 'model'> {
  /** Stages of one rank wait for nothing of each other. */
  rank: number
  /** The device, from 0 on. */
  part: number
  /** Of the model's nodes that it computes, how much of each: 1 for all of it. */
  shares: ReadonlyMap<NodeProto, number>
  /** Of which of the model's tensors each of its inputs and outputs is how much: all of it, also as a part of a sum. */
  origins: ReadonlyMap<string, { tensor: string; share: number }>
  /** Of all weights that it will hold. */
  weightBytes: number
  /** Needs the model's weights, which until then may lie elsewhere. */
  build(): Model
}

export interface TensorOptions {
  flow: Dataflow
  context: BlockContext
  /** What to compute in parts: without common nodes. */
  blocks: readonly Block[]
  /** Of the devices; a faster one gets a larger share. */
  speeds: readonly number[]
  typeOf(tensor: string): ValueInfoProto | undefined
}

/**
 * Stages by rank, then by part. `model` is left as it was.
 * @throws FlyweightError `invalid_plan` where what is no tensor would cross
 */
export function tensorStages(model: Model, { flow, context, blocks, speeds, typeOf }: TensorOptions): PartStage[] {
  const uniqueName = tensorNames(model)
  const layout = layOut(blocks, { flow, ...context, uniqueName, sharesOf: ({ units }, turn) => shareUnits(units, speeds, turn) })
  const exported = exportsOf(model.graph, flow, layout)
  const constants = model.graph.output.map(({ name }) => name).filter((name) => flow.constants.has(name))
  return Array.from({ length: layout.levels }, (_, rank) => {
    const here = layout.blocks.filter(({ level }) => level === rank)
    const parts = Math.max(1, ...here.map(({ shares }) => shares.length))
    return Array.from({ length: parts }, (_, part): PartStage[] => {
      const own = here.filter(({ shares }) => part < shares.length)
      const given = part === 0 ? [...(exported[rank] ?? []), ...(rank === layout.levels - 1 ? constants : [])] : []
      if (own.length + given.length === 0) return []
      return [draft(model, { flow, context, layout, typeOf, uniqueName }, { rank, part, blocks: own, given })]
    }).flat()
  }).flat()
}

/** Per level what its first part hands on: what later levels read, and outputs of the whole. Sums are handed on in parts. */
function exportsOf(graph: GraphProto, flow: Dataflow, { blocks, levels, levelOf }: Layout): string[][] {
  const outputs = new Set(graph.output.map(({ name }) => name))
  const latest = new Map<string, number>()
  const read = (name: string, level: number) => latest.set(name, Math.max(level, latest.get(name) ?? 0))
  const inBlocks = new Set<NodeProto>()
  for (const { nodes, absorbed, reads, level } of blocks) {
    for (const node of [...nodes, ...absorbed]) inBlocks.add(node)
    for (const name of [...reads, ...absorbed.flatMap(({ input }) => input)]) read(name, level)
  }
  for (const node of flow.nodes) if (!inBlocks.has(node)) for (const name of usedTensors(node)) read(name, levelOf(node.output[0] as string))
  const sums = new Map(blocks.map((block) => [block.output, block]))
  const exported = Array.from({ length: levels }, (): string[] => [])
  const written = flow.nodes.flatMap((node) => (inBlocks.has(node) ? [] : node.output.filter((name) => name !== '')))
  for (const name of written) if (outputs.has(name) || (latest.get(name) ?? 0) > levelOf(name)) exported[levelOf(name)]!.push(name)
  for (const [name, { partials }] of sums) if (outputs.has(name) && partials.length > 1) exported[levelOf(name)]!.push(name)
  return exported
}

interface StageContext {
  flow: Dataflow
  context: BlockContext
  layout: Layout
  typeOf(tensor: string): ValueInfoProto | undefined
  uniqueName(base: string): string
}

interface StageParts {
  rank: number
  part: number
  blocks: readonly PlacedBlock[]
  /** Whole tensors that it hands on. */
  given: readonly string[]
}

function draft(model: Model, stage: StageContext, { rank, part, blocks, given }: StageParts): PartStage {
  const { flow, context, layout, typeOf } = stage
  const sums = new Map(layout.blocks.map((block) => [block.output, block]))
  const absorbed = part === 0 ? blocks.flatMap((block) => block.absorbed) : []
  const shares = new Map<NodeProto, number>(absorbed.map((node) => [node, 1]))
  for (const { nodes, shares: ranges, units } of blocks) for (const node of nodes) shares.set(node, (ranges[part]!.to - ranges[part]!.from) / units)
  const inputs = new Map<string, ValueInfoProto | undefined>()
  const joined: PlacedBlock[] = []
  const seen = new Set<string>()
  const waiting = [...given, ...blocks.flatMap(({ reads }) => reads), ...absorbed.flatMap(({ input }) => input)]
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (name === '' || seen.has(name) || flow.constants.has(name)) continue
    seen.add(name)
    const [sum, node] = [sums.get(name), context.index.producer(name)]
    if (node !== undefined && shares.has(node)) continue
    if (sum !== undefined && sum.partials.length > 1) {
      joined.push(sum)
      for (const [from, partial] of sum.partials.entries()) inputs.set(partial, partialType(sum, from, typeOf))
    } else if (node === undefined || sum !== undefined || layout.levelOf(name) < rank) inputs.set(name, typeOf(name))
    else {
      shares.set(node, 1)
      waiting.push(...usedTensors(node))
    }
  }
  const outputs = new Map([...given.map((name): [string, ValueInfoProto | undefined] => [name, typeOf(name)])])
  for (const block of blocks) outputs.set(block.partials[part]!, partialType(block, part, typeOf))
  const declared = new Map([...model.graph.input, ...model.graph.output].map((info) => [info.name, info]))
  const infos = (tensors: ReadonlyMap<string, ValueInfoProto | undefined>) => [...tensors].map(([name, info]) => declared.get(name) ?? info ?? noTensor(name))
  const [inputInfos, outputInfos] = [infos(inputs), infos(outputs)]
  const cut = new Set(blocks.flatMap(({ weights }) => weights))
  // Biases of sums are the first part's.
  const sumsHere = new Set(blocks.map(({ join }) => (join.kind === 'sum' ? join.at : undefined)))
  const readBy = (node: NodeProto) => (part > 0 && sumsHere.has(node) ? node.input.slice(0, 2) : [...usedTensors(node)])
  const whole = constantsFor([...[...shares.keys()].flatMap(readBy).filter((name) => !cut.has(name)), ...given], flow)
  const cutBytes = blocks.flatMap(({ weights, shares: ranges, units }) =>
    weights.map((name) => (storedBytes(context.index.constantProto(name)!) * (ranges[part]!.to - ranges[part]!.from)) / units),
  )
  const stored = model.graph.initializer.filter(({ name }) => whole.stored.has(name)).map(storedBytes)
  const held = [...whole.nodes, ...shares.keys()].filter((node) => !node.output.some((name) => cut.has(name))).map(heldBytes)
  const origins = new Map([...joined, ...blocks].flatMap((block) => block.partials.map((name, from) => [name, originOf(block, from)] as const)))
  const parts = { rank, part, blocks, given, joined, shares, inputInfos, outputInfos }
  return {
    ...{ rank, part, shares, inputs: [...inputs.keys()], outputs: [...outputs.keys()] },
    origins: new Map([...inputs.keys(), ...outputs.keys()].map((name) => [name, origins.get(name) ?? { tensor: name, share: 1 }])),
    weightBytes: [...cutBytes, ...stored, ...held].reduce((sum, bytes) => sum + bytes, 0),
    build: () => built(model, stage, parts),
  }
}

interface Draft extends StageParts {
  /** Blocks of earlier ranks that it adds up or puts together. */
  joined: readonly PlacedBlock[]
  shares: ReadonlyMap<NodeProto, number>
  inputInfos: readonly ValueInfoProto[]
  outputInfos: readonly ValueInfoProto[]
}

function built(
  model: Model,
  { flow, context, uniqueName }: StageContext,
  { rank, part, blocks, given, joined, shares, inputInfos, outputInfos }: Draft,
): Model {
  const parts = blocks.map((block) => partNodes(block, part, { ...context, uniqueName }))
  const made = new Map([...shares.keys()].map((node): [NodeProto, readonly NodeProto[]] => [node, [node]]))
  for (const { nodes } of parts) for (const [node, own] of nodes) made.set(node, own)
  const constants = constantsFor([...[...made.values()].flat().flatMap((node) => [...usedTensors(node)]), ...given], flow)
  const graph = shallowCopy(model.graph)
  graph.name = `${model.graph.name}-rank-${rank}-part-${part}`
  graph.node = [
    ...joined.flatMap((block) => joinNodes(block, uniqueName)),
    ...model.graph.node.flatMap((node) => [...(constants.nodes.has(node) ? [node] : []), ...(made.get(node) ?? [])]),
  ]
  graph.initializer = [...graph.initializer.filter(({ name }) => constants.stored.has(name)), ...parts.flatMap(({ initializers }) => initializers)]
  graph.sparseInitializer = graph.sparseInitializer.filter(({ values }) => values !== undefined && constants.stored.has(values.name))
  graph.input = [...inputInfos, ...model.graph.input.filter(({ name }) => constants.stored.has(name))]
  graph.output = [...outputInfos]
  // Of what is cut the sizes declared are not those of a part.
  graph.valueInfo = []
  graph.quantizationAnnotation = []
  const stage = shallowCopy(model)
  stage.graph = graph
  stage.trainingInfo = []
  return stage
}

/** The whole from what all parts gave. */
function joinNodes({ output, join, partials }: PlacedBlock, uniqueName: (base: string) => string): NodeProto[] {
  if (join.kind === 'concat') return [makeNode('Concat', partials, [output], { attributes: { axis: join.axis } })]
  const nodes: NodeProto[] = []
  let sum = partials[0] as string
  for (const [position, partial] of partials.slice(1).entries()) {
    const next = position === partials.length - 2 ? output : uniqueName(`${output}.sum`)
    nodes.push(makeNode('Add', [sum, partial], [next]))
    sum = next
  }
  return nodes
}

function partialType({ output, join, partials, splits, shares }: PlacedBlock, part: number, typeOf: StageContext['typeOf']): ValueInfoProto | undefined {
  const whole = typeOf(output)
  if (whole === undefined) return undefined
  const info = shallowCopy(whole)
  info.name = partials[part] as string
  if (join.kind === 'sum' || info.type?.value.case !== 'tensorType' || info.type.value.value.shape === undefined) return info
  const size = partSize(splits.get(output)!, shares[part]!)
  const tensorType = shallowCopy(info.type.value.value)
  tensorType.shape = shallowCopy(info.type.value.value.shape)
  const dim = create(TensorShapeProto_DimensionSchema, size === undefined ? {} : { value: { case: 'dimValue', value: BigInt(size) } })
  tensorType.shape.dim = tensorType.shape.dim.with(join.axis, dim)
  info.type = Object.assign(shallowCopy(info.type), { value: { case: 'tensorType', value: tensorType } })
  return info
}

function originOf({ output, join, shares, units }: PlacedBlock, part: number): { tensor: string; share: number } {
  return { tensor: output, share: join.kind === 'sum' ? 1 : (shares[part]!.to - shares[part]!.from) / units }
}

function noTensor(name: string): never {
  throw new FlyweightError('invalid_plan', `"${name}" is no tensor, and cannot pass between stages`)
}
