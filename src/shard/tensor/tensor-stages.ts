// A model as stages of two kinds of neighbours: those of one rank read the same values and may run at once, one a
// device; those of the next rank add up, each for itself, what all of these gave.
import { usedTensors } from '../../onnx/graph.js'
import { node as makeNode } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import { shallowCopy, TensorShapeProto_DimensionSchema, create } from '../../onnx/proto.js'
import type { GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } from '../../onnx/proto.js'
import { FlyweightError } from '../../errors.js'
import { constantsFor, type Dataflow } from '../dataflow.js'
import type { Stage } from '../stages.js'
import { shareUnits } from './axis-split.js'
import type { Block, BlockContext } from './block.js'
import { layOut, type Layout, type PlacedBlock } from './layout.js'
import { partNodes, type PartNodes } from './part-nodes.js'
import { partSize } from './slice-weights.js'

type Model = ModelProto & { graph: GraphProto }

/** A stage of a model in parts. */
export interface PartStage extends Stage {
  /** Stages of one rank wait for nothing of each other. */
  rank: number
  /** The device, from 0 on. */
  part: number
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
 * Stages by rank, then by part. `model` is left as it was; its weights must be loaded.
 * @throws FlyweightError `invalid_plan` where what is no tensor would cross
 */
export function tensorStages(model: Model, { flow, context, blocks, speeds, typeOf }: TensorOptions): PartStage[] {
  const uniqueName = tensorNames(model)
  const layout = layOut(blocks, { flow, ...context, uniqueName, sharesOf: ({ units }, turn) => shareUnits(units, speeds, turn) })
  const exported = exportsOf(model.graph, flow, layout)
  const stages: PartStage[] = []
  for (let rank = 0; rank < layout.levels; rank++) {
    const here = layout.blocks.filter(({ level }) => level === rank)
    for (let part = 0; part < Math.max(1, ...here.map(({ shares }) => shares.length)); part++) {
      const own = here.filter(({ shares }) => part < shares.length)
      const parts = own.map((block) => ({ block, ...partNodes(block, part, { ...context, uniqueName }) }))
      const given = part === 0 ? (exported[rank] ?? []) : []
      if (rank === layout.levels - 1) given.push(...model.graph.output.map(({ name }) => name).filter((name) => flow.constants.has(name)))
      if (parts.length + given.length > 0) stages.push(stageOf(model, { flow, context, layout, typeOf, uniqueName }, { rank, part, parts, given }))
    }
  }
  return stages
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
  parts: readonly (PartNodes & { block: PlacedBlock })[]
  /** Whole tensors that it hands on. */
  given: readonly string[]
}

function stageOf(model: Model, { flow, context, layout, typeOf, uniqueName }: StageContext, { rank, part, parts, given }: StageParts): PartStage {
  const sums = new Map(layout.blocks.map((block) => [block.output, block]))
  const made = new Map<NodeProto, readonly NodeProto[]>(parts.flatMap(({ nodes }) => [...nodes]))
  const heads: NodeProto[] = []
  const inputs = new Map<string, ValueInfoProto | undefined>()
  const seen = new Set<string>()
  const waiting = [...given, ...parts.flatMap(({ block }) => [...block.reads, ...(part === 0 ? block.absorbed : []).flatMap(({ input }) => input)])]
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (name === '' || seen.has(name) || flow.constants.has(name)) continue
    seen.add(name)
    const [sum, node] = [sums.get(name), context.index.producer(name)]
    if (node !== undefined && made.has(node)) continue
    if (sum !== undefined && sum.partials.length > 1) {
      heads.push(...joinNodes(sum, uniqueName))
      for (const [from, partial] of sum.partials.entries()) inputs.set(partial, partialType(sum, from, typeOf))
    } else if (node === undefined || sum !== undefined || layout.levelOf(name) < rank) inputs.set(name, typeOf(name))
    else {
      made.set(node, [node])
      waiting.push(...usedTensors(node))
    }
  }
  const outputs = new Map([...given.map((name): [string, ValueInfoProto | undefined] => [name, typeOf(name)])])
  for (const { block } of parts) outputs.set(block.partials[part] as string, partialType(block, part, typeOf))
  const nodes = [...made.values()].flat()
  const constants = constantsFor([...nodes.flatMap((node) => [...usedTensors(node)]), ...given], flow)
  const declared = new Map([...model.graph.input, ...model.graph.output].map((info) => [info.name, info]))
  const infos = (tensors: ReadonlyMap<string, ValueInfoProto | undefined>) => [...tensors].map(([name, info]) => declared.get(name) ?? info ?? noTensor(name))
  const graph = shallowCopy(model.graph)
  graph.name = `${model.graph.name}-rank-${rank}-part-${part}`
  graph.node = [...heads, ...model.graph.node.flatMap((node) => [...(constants.nodes.has(node) ? [node] : []), ...(made.get(node) ?? [])])]
  graph.initializer = [
    ...graph.initializer.filter(({ name }) => constants.stored.has(name)),
    ...parts.flatMap(({ initializers }): readonly TensorProto[] => initializers),
  ]
  graph.sparseInitializer = graph.sparseInitializer.filter(({ values }) => values !== undefined && constants.stored.has(values.name))
  graph.input = [...infos(inputs), ...model.graph.input.filter(({ name }) => constants.stored.has(name))]
  graph.output = infos(outputs)
  // Of what is cut the sizes declared are not those of a part.
  graph.valueInfo = []
  graph.quantizationAnnotation = []
  const stage = shallowCopy(model)
  stage.graph = graph
  stage.trainingInfo = []
  return { model: stage, inputs: [...inputs.keys()], outputs: [...outputs.keys()], rank, part }
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

function noTensor(name: string): never {
  throw new FlyweightError('invalid_plan', `"${name}" is no tensor, and cannot pass between stages`)
}
