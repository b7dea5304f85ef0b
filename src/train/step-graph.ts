// One training step as nodes: forward, loss, backward and update on flat vectors; and K such steps as the body of one
// ONNX Loop, so that parameters stay in the runtime from step to step. Nothing is computed here.
import { Emitter } from '../onnx/emitter.js'
import { graph as makeGraph, model as makeModel, node as makeNode, valueInfo } from '../onnx/builder.js'
import { tensorNames } from '../onnx/names.js'
import type { NodeProto, TensorProto } from '../onnx/proto.js'
import type { Tensor } from '../tensor/tensor.js'
import { emitBackward } from './backward.js'
import type { Tensors } from './gradient.js'
import type { Optimizer } from './optimizers/optimizer.js'
import type { Layout } from './parameters.js'
import { observeTensors } from './tensors.js'
import { startOf, type Model, type TrainingForm } from './training-form.js'

/** Emits the loss of one batch from the model's outputs and the batch's columns; returns the name of a scalar. */
export type EmitLoss = (emit: Emitter, tensors: Tensors) => string

/** Changes gradients before the update sees them, as clipping does. */
export type EmitGradients = (emit: Emitter, gradients: string) => string

export interface StepOptions {
  form: TrainingForm
  /** One batch, of any values: the model's inputs and what the loss reads beside them. */
  batch: Readonly<Record<string, Tensor>>
  loss: EmitLoss
  optimizer: Optimizer
  clip?: EmitGradients | undefined
}

/** What is carried from one run of a step graph to the next. */
export interface CarriedState {
  name: string
  /** The graph's input and output that hold it. */
  input: string
  output: string
  /** Elements of a vector; undefined for a scalar. */
  count: number | undefined
}

export interface StepGraph {
  /** Inputs beside state and columns: `learning_rates` [steps]. Outputs beside the state: `losses` [steps]. */
  model: Model
  state: readonly CarriedState[]
  /** By column of a batch, the input that takes it with a dimension of steps in front. */
  columns: Readonly<Record<string, string>>
}

export const STATE = { parameters: 'parameters', statistics: 'statistics', step: 'step' } as const
export const LEARNING_RATES = 'learning_rates'
export const LOSSES = 'losses'
const STEPS = 'steps'

/** The names that a step's nodes read and write. */
interface Step {
  nodes: NodeProto[]
  initializers: TensorProto[]
  before: Record<string, string>
  after: Record<string, string>
  learningRate: string
  loss: string
}

/**
 * @throws FlyweightError `invalid_model` for an operator that cannot be trained through, with the path to the loss
 */
export async function buildStepGraph(options: StepOptions): Promise<StepGraph> {
  const { form, batch, optimizer } = options
  const names = await withLoss(options)
  const step = emitStep(options, names)
  const carried = (name: string, count: number | undefined): CarriedState => ({
    name,
    count,
    input: names.unique(name),
    output: names.unique(`${name}::after`),
  })
  const state = [
    carried(STATE.parameters, form.parameters.count),
    ...(form.statistics.count === 0 ? [] : [carried(STATE.statistics, form.statistics.count)]),
    carried(STATE.step, undefined),
    ...optimizer.slots.map((slot) => carried(slot, form.parameters.count)),
  ]
  const columns = Object.fromEntries(Object.keys(batch).map((name) => [name, names.unique(`${name}::steps`)]))
  return { state, columns, model: loopModel({ step, state, columns, batch, unique: names.unique }) }
}

interface Forward {
  unique: (base: string) => string
  emit: Emitter
  /** Nodes of the forward pass and the loss. */
  nodes: readonly NodeProto[]
  tensors: Tensors
  loss: string
}

/** The training form with the loss behind it, and the shapes of everything in it. */
async function withLoss({ form, batch, loss: emitLoss }: StepOptions): Promise<Forward> {
  const inputs = new Map(form.graph.input.map((info) => [info.name, info]))
  for (const [name, { dtype, dims }] of Object.entries(batch)) inputs.set(name, valueInfo(name, dtype, dims))
  const around = { inputs: [...inputs.values()], outputs: [] }
  const forward = makeModel({ ...around, nodes: form.graph.node, initializers: form.graph.initializer })
  const unique = tensorNames(forward)
  for (const name of [LEARNING_RATES, LOSSES]) unique(name)
  const emit = new Emitter(unique)
  const feeds = { ...batch, ...startOf(form) }
  const loss = emitLoss(emit, await observeTensors(forward, feeds))
  const nodes = [...form.graph.node, ...emit.nodes]
  const tensors = await observeTensors(makeModel({ ...around, nodes, initializers: [...form.graph.initializer, ...emit.initializers] }), feeds)
  return { unique, emit, nodes, tensors, loss }
}

function emitStep({ form, optimizer, clip }: StepOptions, { unique, emit, nodes, tensors, loss }: Forward): Step {
  const carried = (name: string) => unique(`${name}::before`)
  const before: Record<string, string> = Object.fromEntries([...Object.values(STATE), ...optimizer.slots].map((name) => [name, carried(name)]))
  const learningRate = unique('learning_rate')
  const opening = new Emitter(unique)
  const parameters = before[STATE.parameters] as string
  emitSplit(opening, parameters, form.parameters)
  if (form.statistics.count > 0) emitSplit(opening, before[STATE.statistics] as string, form.statistics)

  const wanted = form.parameters.tensors.map(({ name }) => name)
  const backward = emitBackward({ nodes, loss, wanted, tensors, emit })
  const flat = emitFlat(
    emit,
    wanted.map((name) => backward.get(name) as string),
  )
  const step = emit.op('Add', [before[STATE.step] as string, emit.scalar(1)])
  const gradients = clip === undefined ? flat : clip(emit, flat)
  const slots = optimizer.slots.map((slot) => before[slot] as string)
  const updated = optimizer.emit(emit, { parameters, gradients, learningRate, step, slots, layout: form.parameters.tensors })
  const after: Record<string, string> = {
    [STATE.parameters]: updated.parameters,
    ...(form.statistics.count === 0 ? {} : { [STATE.statistics]: emitFlat(emit, form.updatedStatistics) }),
    [STATE.step]: step,
    ...Object.fromEntries(optimizer.slots.map((slot, index) => [slot, updated.slots[index] as string])),
  }
  return {
    nodes: [...opening.nodes, ...form.graph.node, ...emit.nodes],
    initializers: [...form.graph.initializer, ...opening.initializers, ...emit.initializers],
    before,
    after,
    learningRate,
    loss,
  }
}

/** K steps in one Loop: each takes its slice of the stacked columns, the state goes from one to the next, losses are collected. */
function loopModel({
  step,
  state,
  columns,
  batch,
  unique,
}: {
  step: Step
  state: readonly CarriedState[]
  columns: Readonly<Record<string, string>>
  batch: StepOptions['batch']
  unique: (base: string) => string
}): Model {
  const [iteration, going, still] = [unique('iteration'), unique('going'), unique('still_going')]
  const dimsOf = ({ count }: CarriedState) => (count === undefined ? [] : [count])
  const slices = Object.entries(columns).map(([name, all]) => makeNode('Gather', [all, iteration], [name], { name: `${name}::slice` }))
  const loss = unique('loss::flat')
  const body = makeGraph({
    name: 'step',
    inputs: [
      valueInfo(iteration, 'int64', []),
      valueInfo(going, 'bool', []),
      ...state.map((one) => valueInfo(step.before[one.name] as string, 'float32', dimsOf(one))),
    ],
    outputs: [
      valueInfo(still, 'bool', []),
      ...state.map((one) => valueInfo(step.after[one.name] as string, 'float32', dimsOf(one))),
      valueInfo(loss, 'float32', []),
    ],
    nodes: [
      makeNode('Identity', [going], [still]),
      makeNode('Gather', [LEARNING_RATES, iteration], [step.learningRate], { name: 'learning_rate::slice' }),
      ...slices,
      ...step.nodes,
      makeNode('Identity', [step.loss], [loss]),
    ],
  })
  const emit = new Emitter(unique)
  const trips = emit.op('Squeeze', [emit.op('Shape', [LEARNING_RATES])])
  const loop = makeNode('Loop', [trips, '', ...state.map(({ input }) => input)], [...state.map(({ output }) => output), LOSSES], {
    name: 'steps',
    attributes: { body },
  })
  return makeModel({
    name: 'training',
    inputs: [
      ...state.map((one) => valueInfo(one.input, 'float32', dimsOf(one))),
      ...Object.entries(columns).map(([name, all]) => valueInfo(all, (batch[name] as Tensor).dtype, [STEPS, ...(batch[name] as Tensor).dims])),
      valueInfo(LEARNING_RATES, 'float32', [STEPS]),
    ],
    outputs: [...state.map((one) => valueInfo(one.output, 'float32', dimsOf(one))), valueInfo(LOSSES, 'float32', [STEPS])],
    nodes: [...emit.nodes, loop],
    initializers: [...step.initializers, ...emit.initializers],
  })
}

/** Cuts a flat vector into tensors of their own names. */
function emitSplit(emit: Emitter, flat: string, { tensors }: Layout): void {
  const pieces = emit.ops('Split', [flat, emit.ints(tensors.map(({ count }) => count))], tensors.length)
  for (const [index, { name, dims }] of tensors.entries()) {
    emit.nodes.push(makeNode('Reshape', [pieces[index] as string, emit.ints(dims)], [name], { name: `${name}::cut` }))
  }
}

/** One vector of all tensors, in their order. */
function emitFlat(emit: Emitter, tensors: readonly string[]): string {
  const flattened = tensors.map((tensor) => emit.op('Reshape', [tensor, emit.ints([-1])]))
  return emit.op('Concat', flattened, { attributes: { axis: 0 } })
}
