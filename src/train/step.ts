// One training step as nodes, in two parts: forward, loss and backward, which give gradients as one flat vector; and the
// update that takes them. Names are the same in both, so that they can be one graph or two. Nothing is computed here.
import { Emitter } from '../onnx/emitter.js'
import { model as makeModel, node as makeNode, valueInfo } from '../onnx/builder.js'
import { usedTensors } from '../onnx/graph.js'
import { tensorNames } from '../onnx/names.js'
import type { NodeProto, TensorProto } from '../onnx/proto.js'
import type { Tensor } from '../tensor/tensor.js'
import { autocast, type AutocastOptions } from './autocast.js'
import { emitBackward } from './backward.js'
import type { Tensors } from './gradient.js'
import { emitIsFinite, emitKept, emitNextScale, emitUnscaled, type LossScaleOptions } from './loss-scale.js'
import type { Optimizer } from './optimizers/optimizer.js'
import { dividedLayout, type Layout } from './parameters.js'
import { observeTensors } from './tensors.js'
import { startOf, type TrainingForm } from './training-form.js'

/** Emits the loss of one batch from the model's outputs and the batch's columns; returns the name of a scalar. */
export type EmitLoss = (emit: Emitter, tensors: Tensors) => string

/** Changes gradients before the update sees them, as clipping does. `norm` is theirs where it comes from outside. */
export type EmitGradients = (emit: Emitter, gradients: string, norm?: string) => string

export interface StepOptions {
  form: TrainingForm
  /** One batch, of any values: the model's inputs and what the loss reads beside them. */
  batch: Readonly<Record<string, Tensor>>
  loss: EmitLoss
  optimizer: Optimizer
  clip?: EmitGradients | undefined
  /** What of the forward and the backward pass is computed in float16; default: nothing. */
  autocast?: Pick<AutocastOptions, 'level' | 'emulated'> | undefined
  /** Multiplies the loss for the backward pass, and leaves steps out whose gradients overflow. */
  lossScale?: LossScaleOptions | undefined
  /** Multiply gradients by a weight that comes in from outside. */
  weighted?: boolean
  /** Vectors that the gradients are handed over in; default: 1. */
  buckets?: number
}

/** What is carried from one step to the next. */
export interface Carried {
  name: string
  /** Elements of a vector; undefined for a scalar. */
  count: number | undefined
  /** Value of all elements at the start; parameters and statistics start with the model's own. */
  initial: number
}

export interface CarriedState extends Carried {
  /** The tensors that hold it before and after a step. */
  before: string
  after: string
}

/** Consecutive elements of the flat vector of parameters. */
export interface Shard {
  offset: number
  count: number
}

export interface Part {
  nodes: NodeProto[]
  initializers: TensorProto[]
}

export interface Step {
  state: readonly CarriedState[]
  /** Reads parameters, statistics, the loss scale and the weight; writes the tensors below. */
  gradient: Part
  /** Scalar that multiplies gradients; undefined where they are not weighted. */
  weight: string | undefined
  /** Flat vectors of the (scaled) loss' gradients by all parameters, one a bucket, as `buckets` says. */
  gradients: readonly string[]
  /** The parameters of each bucket: runs of their order, the last ones first, as their gradients are done first. */
  buckets: readonly Layout[]
  /** Flat vector of statistics as this batch moves them; undefined where there are none. */
  statistics: string | undefined
  /** Scalar, not scaled. */
  loss: string
  /** Reads all state, gradients, statistics and the learning rate; writes all state. */
  update: Part
  /** Scalar. */
  learningRate: string
  /** Makes names that no tensor has. */
  unique: (base: string) => string
}

/** Names of state; optimizers add slots of their own. */
export const STATE = { parameters: 'parameters', statistics: 'statistics', step: 'step', scale: 'loss_scale', goodSteps: 'good_steps' } as const

/**
 * @throws FlyweightError `invalid_model` for an operator that cannot be trained through, with the path to the loss
 */
export async function buildStep(options: StepOptions): Promise<Step> {
  const forward = await withLoss(options)
  const { unique, loss } = forward
  const state = carriedBy(options).map((one) => ({ ...one, before: unique(`${one.name}::before`), after: unique(`${one.name}::after`) }))
  const gradient = emitGradient(options, forward, state)
  const learningRate = unique('learning_rate')
  const update = emitUpdate(options, { ...gradient, state, learningRate, unique })
  return { state, ...gradient, loss, update, learningRate, unique }
}

/** What steps carry, in the order of their graphs. */
export function carriedBy({ form, optimizer, lossScale }: Pick<StepOptions, 'form' | 'optimizer' | 'lossScale'>): Carried[] {
  const carried = (name: string, count: number | undefined, initial = 0): Carried => ({ name, count, initial })
  return [
    carried(STATE.parameters, form.parameters.count),
    ...(form.statistics.count === 0 ? [] : [carried(STATE.statistics, form.statistics.count)]),
    carried(STATE.step, undefined),
    ...(lossScale === undefined ? [] : [carried(STATE.scale, undefined, lossScale.initial), carried(STATE.goodSteps, undefined)]),
    ...optimizer.slots.map((slot) => carried(slot, form.parameters.count)),
  ]
}

export interface Forward extends Part {
  unique: (base: string) => string
  /** Behind the nodes of the forward pass, with those of the loss so far. */
  emit: Emitter
  tensors: Tensors
  loss: string
}

/** The training form with the loss behind it, and the shapes of everything in it. */
export async function withLoss({
  form,
  batch,
  loss: emitLoss,
  autocast: casting,
}: Pick<StepOptions, 'form' | 'batch' | 'loss' | 'autocast'>): Promise<Forward> {
  const inputs = new Map(form.graph.input.map((info) => [info.name, info]))
  for (const [name, { dtype, dims }] of Object.entries(batch)) inputs.set(name, valueInfo(name, dtype, dims))
  const around = { inputs: [...inputs.values()], outputs: [] }
  const forward = makeModel({ ...around, nodes: form.graph.node, initializers: form.graph.initializer })
  const unique = tensorNames(forward)
  const emit = new Emitter(unique)
  const feeds = { ...batch, ...startOf(form) }
  const plain = await observeTensors(forward, feeds)
  const loss = emitLoss(emit, plain)
  const wanted = new Set([...emit.nodes.flatMap((node) => [...usedTensors(node)]), loss, ...form.updatedStatistics])
  const parameters = new Set(form.parameters.tensors.map(({ name }) => name))
  const cast =
    casting === undefined ? { nodes: form.graph.node, initializers: [] } : autocast(form.graph.node, { ...casting, tensors: plain, parameters, wanted, unique })
  const initializers = [...form.graph.initializer, ...cast.initializers]
  const whole = makeModel({ ...around, nodes: [...cast.nodes, ...emit.nodes], initializers: [...initializers, ...emit.initializers] })
  return { unique, emit, nodes: cast.nodes, initializers, tensors: await observeTensors(whole, feeds), loss }
}

function emitGradient(
  { form, lossScale, weighted = false, buckets: count = 1 }: StepOptions,
  { unique, emit, nodes, initializers, tensors, loss }: Forward,
  state: readonly CarriedState[],
): Pick<Step, 'gradient' | 'weight' | 'gradients' | 'buckets' | 'statistics'> {
  const before = beforeOf(state)
  const opening = new Emitter(unique)
  emitSlices(opening, before(STATE.parameters), form.parameters)
  if (form.statistics.count > 0) emitSlices(opening, before(STATE.statistics), form.statistics)
  const wanted = form.parameters.tensors.map(({ name }) => name)
  const weight = weighted ? unique('weight') : undefined
  const factors = [...(lossScale === undefined ? [] : [before(STATE.scale)]), ...(weight === undefined ? [] : [weight])]
  const seed = factors.length < 2 ? factors[0] : emit.op('Mul', factors)
  const backward = emitBackward({ nodes: [...nodes, ...emit.nodes], loss, wanted, tensors, emit, ...(seed === undefined ? {} : { seed }) })
  const buckets = dividedLayout(form.parameters, count).toReversed()
  const gradients = buckets.map((bucket) =>
    emitFlat(
      emit,
      bucket.tensors.map(({ name }) => backward.get(name) as string),
    ),
  )
  const statistics = form.statistics.count === 0 ? undefined : emitFlat(emit, form.updatedStatistics)
  return {
    gradient: {
      nodes: [...opening.nodes, ...nodes, ...emit.nodes],
      initializers: [...initializers, ...opening.initializers, ...emit.initializers],
    },
    weight,
    gradients,
    buckets,
    statistics,
  }
}

export interface UpdateTensors extends Pick<Step, 'state' | 'unique' | 'gradients' | 'statistics' | 'learningRate'> {
  /** Scalar: the norm of the gradients of all, scaled as they are, where these are a part of them. */
  norm?: string | undefined
}

/**
 * The update part of a step.
 * @param shard what of parameters and slots is updated; slots come in and go out, and parameters go out, as these elements
 * alone. Gradients are whole, as clipping and loss scaling go by all of them. Default: everything
 */
export function emitUpdate(
  { form, optimizer, clip, lossScale }: Pick<StepOptions, 'form' | 'optimizer' | 'clip' | 'lossScale'>,
  { state, unique, ...given }: UpdateTensors,
  shard?: Shard,
): Part {
  const before = beforeOf(state)
  const emit = new Emitter(unique)
  const step = emit.op('Add', [before(STATE.step), emit.scalar(1)])
  const gradients = given.gradients.length === 1 ? (given.gradients[0] as string) : emit.op('Concat', given.gradients.toReversed(), { attributes: { axis: 0 } })
  const flat = lossScale === undefined ? gradients : emitUnscaled(emit, gradients, before(STATE.scale))
  const norm = given.norm === undefined || lossScale === undefined ? given.norm : emitUnscaled(emit, given.norm, before(STATE.scale))
  const cut = (vector: string) =>
    shard === undefined ? vector : emit.op('Slice', [vector, emit.ints([shard.offset]), emit.ints([shard.offset + shard.count])])
  const parameters = cut(before(STATE.parameters))
  const updated = optimizer.emit(emit, {
    parameters,
    gradients: cut(clip === undefined ? flat : clip(emit, flat, norm)),
    learningRate: given.learningRate,
    step,
    slots: optimizer.slots.map(before),
    layout: form.parameters.tensors,
  })
  const results = new Map([
    [STATE.parameters as string, updated.parameters],
    ...(given.statistics === undefined ? [] : [[STATE.statistics, given.statistics] as const]),
    ...optimizer.slots.map((slot, index) => [slot, updated.slots[index] as string] as const),
  ])
  if (lossScale !== undefined) {
    const finite = emitIsFinite(emit, gradients, given.norm)
    const held = [...results.keys()].map((name) => (name === STATE.parameters ? parameters : before(name)))
    const kept = emitKept(emit, finite, { after: [...results.values()], before: held })
    for (const [index, name] of [...results.keys()].entries()) results.set(name, kept[index] as string)
    const next = emitNextScale(emit, finite, { scale: before(STATE.scale), goodSteps: before(STATE.goodSteps) }, lossScale)
    results.set(STATE.scale, next.scale).set(STATE.goodSteps, next.goodSteps)
  }
  results.set(STATE.step, step)
  for (const { name, after } of state) emit.nodes.push(makeNode('Identity', [results.get(name) as string], [after], { name: after }))
  return { nodes: emit.nodes, initializers: emit.initializers }
}

export function beforeOf(state: readonly CarriedState[]): (name: string) => string {
  const names = new Map(state.map(({ name, before }) => [name, before]))
  return (name) => names.get(name) as string
}

/** Cuts a flat vector into tensors of their own names; not by one Split, as GPUs allow a kernel few outputs. */
export function emitSlices(emit: Emitter, flat: string, { tensors }: Layout): void {
  for (const { name, dims, offset, count } of tensors) {
    const slice = emit.op('Slice', [flat, emit.ints([offset]), emit.ints([offset + count])])
    emit.nodes.push(makeNode('Reshape', [slice, emit.ints(dims)], [name], { name: `${name}::cut` }))
  }
}

/** One vector of all tensors, in their order. */
export function emitFlat(emit: Emitter, tensors: readonly string[]): string {
  const flattened = tensors.map((tensor) => emit.op('Reshape', [tensor, emit.ints([-1])]))
  return emit.op('Concat', flattened, { attributes: { axis: 0 } })
}
