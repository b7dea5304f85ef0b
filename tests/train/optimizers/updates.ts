// Runs an optimizer's emitted update step after step, as training does, and counts its passes over memory.
import { model, valueInfo } from '#flyweight/onnx/builder.js'
import { Emitter } from '#flyweight/onnx/emitter.js'
import { encodeModel, type NodeProto } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import type { Optimizer } from '#flyweight/train/optimizers/optimizer.js'
import { observeTensors } from '#flyweight/train/tensors.js'
import { floats, noise } from '../../onnx/running.js'

export interface Course {
  start: number[]
  /** One vector a step. */
  gradients: number[][]
  /** One a step. */
  rates: number[]
  /** Lengths of the tensors that the vector is made of. */
  counts: number[]
}

/** A seeded course: rates that change, gradients of several sizes. */
export function course(counts: number[], steps: number, seed: number): Course {
  const size = counts.reduce((sum, count) => sum + count, 0)
  const values = (dims: number[], offset: number) => Array.from(noise(dims, seed * 1000 + offset).data as Float32Array)
  return {
    start: values([size], 0),
    gradients: Array.from({ length: steps }, (_, step) => values([size], step + 1).map((value, index) => value * 10 ** ((index % 4) - 2))),
    rates: Array.from({ length: steps }, (_, step) => Math.fround(0.05 / (1 + step / 10))),
    counts,
  }
}

/** The parameters after every step. */
export async function updates(optimizer: Optimizer, course: Course): Promise<number[][]> {
  return slotAfter(optimizer, 'parameters', course)
}

/** One of the vectors that are carried, after every step. */
export async function slotAfter(optimizer: Optimizer, slot: string, { start, gradients, rates, counts }: Course): Promise<number[][]> {
  const { graph, outputs, feeds } = updateModel(optimizer, start.length, counts)
  const session = await openSession(encodeModel(graph))
  const course: number[][] = []
  try {
    const state: Record<string, Tensor> & { parameters: Tensor } = { ...feeds, parameters: floats([start.length], start) }
    for (const [index, gradient] of gradients.entries()) {
      state.gradients = floats([start.length], gradient)
      state.learning_rate = floats([], [rates[index] as number])
      state.step = floats([], [index + 1])
      const results = await session.run(state)
      for (const [input, output] of outputs) state[input] = results[output] as Tensor
      course.push(Array.from(state[slot]?.data as Float32Array))
    }
  } finally {
    await session.release()
  }
  return course
}

/** Nodes of an update whose output is as long as the parameters, those that work on pieces of it counted in shares. */
export async function passes(optimizer: Optimizer): Promise<number> {
  const counts = [40, 24]
  const { graph, feeds } = updateModel(optimizer, 64, counts)
  const tensors = await observeTensors(graph, feeds)
  const elements = (node: NodeProto) => node.output.reduce((sum, name) => sum + tensors.dims(name).reduce((a, b) => a * b, 1), 0)
  const isLarge = (node: NodeProto) => node.output.some((name) => tensors.dims(name).length > 0) || node.opType === 'ReduceL2'
  const reads = (node: NodeProto) => (node.opType === 'ReduceL2' ? tensors.dims(node.input[0] as string)[0] : elements(node)) as number
  return graph.graph.node.filter(isLarge).reduce((sum, node) => sum + reads(node) / 64, 0)
}

function updateModel(optimizer: Optimizer, size: number, counts: number[]) {
  let last = 0
  const emit = new Emitter((base) => `${base}#${last++}`)
  const layout = counts.map((count, index) => ({ name: `tensor${index}`, count, offset: counts.slice(0, index).reduce((sum, before) => sum + before, 0) }))
  const slots = optimizer.slots
  const updated = optimizer.emit(emit, { parameters: 'parameters', gradients: 'gradients', learningRate: 'learning_rate', step: 'step', slots, layout })
  const vectors = ['parameters', 'gradients', ...slots]
  const graph = model({
    inputs: [...vectors.map((name) => valueInfo(name, 'float32', [size])), valueInfo('learning_rate', 'float32', []), valueInfo('step', 'float32', [])],
    outputs: [updated.parameters, ...updated.slots].map((name) => valueInfo(name, 'float32', [size])),
    nodes: emit.nodes,
    initializers: emit.initializers,
  })
  const zeros = floats([size], new Array<number>(size).fill(0))
  const feeds = { ...Object.fromEntries(vectors.map((name) => [name, zeros])), parameters: zeros, learning_rate: floats([], [0.1]), step: floats([], [1]) }
  const outputs: [string, string][] = [
    ['parameters', updated.parameters],
    ...slots.map((slot, index): [string, string] => [slot, updated.slots[index] as string]),
  ]
  return { graph, outputs, feeds: feeds as Record<string, Tensor> & { parameters: Tensor } }
}

/** Largest difference between two courses, in shares of the largest parameter. */
export function departure(got: number[][], expected: number[][]): number {
  const largest = Math.max(1, ...expected.flat().map(Math.abs))
  return Math.max(...got.flatMap((values, step) => values.map((value, index) => Math.abs(value - (expected[step]?.[index] ?? Number.NaN))))) / largest
}
