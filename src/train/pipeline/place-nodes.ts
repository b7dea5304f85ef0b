// A step's nodes placed on stages: the forward pass as it is assigned, the loss on the last stage, and the gradient of
// each node where the node itself is. So what a stage needs of later ones is the gradients of what it gave them.
import { Emitter } from '../../onnx/emitter.js'
import { usedTensors } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import { emitBackward } from '../backward.js'
import { layoutOf } from '../parameters.js'
import { beforeOf, carriedBy, emitFlat, emitSlices, STATE, withLoss, type Forward, type StepOptions } from '../step.js'
import { writtenBy, type ForwardNodes } from './assign-stages.js'
import { sumWhereMade } from './partial-sums.js'
import type { PlacedStage, PlacedStep } from './placed-step.js'

export interface PlaceOptions extends Omit<StepOptions, 'weighted' | 'buckets'> {
  stages: number
  /** The stage of each tensor that nodes of the forward pass write. */
  assign(forward: ForwardNodes): ReadonlyMap<string, number>
}

/** @throws FlyweightError as buildStep does, and as `assign` does */
export async function placeNodes(options: PlaceOptions): Promise<PlacedStep> {
  const forward = await withLoss(options)
  const { unique, emit, nodes, initializers, tensors, loss } = forward
  const state = carriedBy(options).map((one) => ({ ...one, before: unique(`${one.name}::before`), after: unique(`${one.name}::after`) }))
  const assigned = options.assign({ nodes, tensors })
  const stageOf = new Map<NodeProto, number>(nodes.map((node) => [node, assigned.get(writtenBy(node)[0] as string) as number]))
  for (const node of emit.nodes) stageOf.set(node, options.stages - 1)
  const ahead = [...stageOf.keys()]
  const layouts = layoutsOf(options, stageOf)
  const before = beforeOf(state)
  const cuts = layouts.map(({ parameters, statistics }) => {
    const cut = new Emitter(unique)
    emitSlices(cut, before(STATE.parameters), parameters)
    if (statistics.count > 0) emitSlices(cut, before(STATE.statistics), statistics)
    return cut
  })
  const weight = unique('weight')
  const scale = options.lossScale === undefined ? undefined : before(STATE.scale)
  const back = emitPlacedBackward(options, forward, { ahead, stageOf, layouts, weight, scale })
  const updates = new Map(options.form.statistics.tensors.map(({ name }, index) => [name, options.form.updatedStatistics[index] as string]))
  const moved = layouts.map(({ statistics: { tensors: own } }) => {
    const flat = new Emitter(unique)
    const name =
      own.length === 0
        ? undefined
        : emitFlat(
            flat,
            own.map((one) => updates.get(one.name) as string),
          )
    return { name, emit: flat }
  })
  const known = [...initializers, ...emit.initializers].map(({ name }) => name)
  const free = freeNodes(ahead, [...known, ...cuts.flatMap((cut) => cut.nodes.flatMap(writtenBy))])
  const stages = layouts.map((layout, stage): PlacedStage => {
    const here = ahead.filter((node) => stageOf.get(node) === stage)
    const [cut, statistics] = [cuts[stage] as Emitter, moved[stage]]
    return {
      ...layout,
      nodes: {
        free: [...cut.nodes, ...here.filter((node) => free.has(node))],
        forward: [...here.filter((node) => !free.has(node)), ...(statistics?.emit.nodes ?? [])],
        backward: back.nodes[stage] as NodeProto[],
      },
      gradients: back.flat[stage],
      updatedStatistics: statistics?.name,
    }
  })
  return {
    stages: sumWhereMade(stages, { gradientOf: back.gradientOf, unique }),
    initializers: [...initializers, ...[emit, ...cuts, ...moved.map((one) => one.emit)].flatMap((one) => one.initializers)],
    state,
    weight,
    loss,
    describe: (tensor) => {
      const name = back.gradientOf.get(tensor) ?? tensor
      return { dtype: tensors.dtype(name), dims: tensors.dims(name) }
    },
    unique,
  }
}

type Layouts = Pick<PlacedStage, 'parameters' | 'statistics'>

/** A parameter is where it is first read, a statistic where it is moved. */
function layoutsOf({ form, stages }: Pick<PlaceOptions, 'form' | 'stages'>, stageOf: ReadonlyMap<NodeProto, number>): Layouts[] {
  const home = new Map<string, number>()
  for (const [node, stage] of stageOf) for (const name of usedTensors(node)) home.set(name, Math.min(stage, home.get(name) ?? stage))
  const mover = new Map<string, number>()
  for (const [node, stage] of stageOf) for (const name of writtenBy(node)) mover.set(name, stage)
  const moverOf = (index: number) => mover.get(form.updatedStatistics[index] as string)
  return Array.from({ length: stages }, (_, stage) => ({
    parameters: layoutOf(form.parameters.tensors.filter(({ name }) => (home.get(name) ?? 0) === stage)),
    statistics: layoutOf(form.statistics.tensors.filter((_, index) => moverOf(index) === stage)),
  }))
}

interface PlacedForward {
  /** Nodes of the forward pass and the loss. */
  ahead: readonly NodeProto[]
  stageOf: ReadonlyMap<NodeProto, number>
  layouts: readonly Layouts[]
  weight: string
  scale: string | undefined
}

interface PlacedBackward {
  nodes: NodeProto[][]
  /** By stage, its gradients as one vector. */
  flat: (string | undefined)[]
  /** By gradient, what it is the gradient of. */
  gradientOf: Map<string, string>
}

function emitPlacedBackward(
  { form, stages }: Pick<PlaceOptions, 'form' | 'stages'>,
  { emit, tensors, loss }: Forward,
  { ahead, stageOf, layouts, weight, scale }: PlacedForward,
): PlacedBackward {
  const gradientOf = new Map<string, string>()
  // Nodes from a mark on are of its stage; those of none go where they are read.
  const marks: { from: number; stage: number | undefined }[] = []
  const mark = (stage: number | undefined) => marks.push({ from: emit.nodes.length, stage })
  mark(stages - 1)
  const gradients = emitBackward({
    nodes: ahead,
    loss,
    wanted: form.parameters.tensors.map(({ name }) => name),
    tensors,
    emit,
    seed: scale === undefined ? weight : emit.op('Mul', [scale, weight]),
    trace: {
      begin: (node) => void mark(node && stageOf.get(node)),
      gradient: (tensor, gradient) => void gradientOf.set(gradient, tensor),
    },
  })
  const flat = layouts.map(({ parameters }, stage) => {
    mark(stage)
    const own = parameters.tensors.map(({ name }) => gradients.get(name) as string)
    return own.length === 0 ? undefined : emitFlat(emit, own)
  })
  const nodes = Array.from({ length: stages }, (): NodeProto[] => [])
  const reader = new Map<string, number>()
  for (let index = emit.nodes.length - 1; index >= (marks[0]?.from ?? 0); index--) {
    while ((marks.at(-1)?.from ?? 0) > index) marks.pop()
    const node = emit.nodes[index] as NodeProto
    const stage = marks.at(-1)?.stage ?? reader.get(node.output[0] as string)
    if (stage === undefined) continue
    nodes[stage]?.unshift(node)
    for (const name of usedTensors(node)) reader.set(name, stage)
  }
  return { nodes, flat, gradientOf }
}

/** Operators that give something else each time. */
const RANDOM = /^(Random|Bernoulli|Multinomial|Dropout$)/

export function isRandom({ opType }: NodeProto): boolean {
  return RANDOM.test(opType)
}

/** Nodes that compute from `known` tensors alone. */
function freeNodes(nodes: readonly NodeProto[], known: readonly string[]): Set<NodeProto> {
  const fixed = new Set(known)
  const free = nodes.filter((node) => {
    if (isRandom(node) || ![...usedTensors(node)].every((name) => fixed.has(name))) return false
    for (const name of writtenBy(node)) fixed.add(name)
    return true
  })
  return new Set(free)
}
