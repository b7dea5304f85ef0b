// Small trainings for tests of ranks: by one process, or by ranks that are given.
import { model as makeModel, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { elementCount } from '#flyweight/tensor/tensor.js'
import type { Dataset } from '#flyweight/train/dataset.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { openCoordinator } from '#flyweight/train/parallel/coordinator.js'
import type { Ranks } from '#flyweight/train/parallel/ranks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { carriedBy } from '#flyweight/train/step.js'
import type { TrainState } from '#flyweight/train/step-engine.js'
import { stepOptions } from '#flyweight/train/step-settings.js'
import { train, type TrainOptions } from '#flyweight/train/trainer.js'
import type { Model } from '#flyweight/train/training-form.js'
import { noise } from '../../onnx/running.js'

const [ROWS, CLASSES] = [40, 3]

const dims = { mlp: [6], cnn: [2, 5, 5], normalized: [2, 5, 5], vit: [1, 4, 4], shared: [6] }

export const networks: Record<keyof typeof dims, () => Model> = {
  shared: sharing,
  vit: () =>
    buildNetwork(
      { kind: 'transformer', width: 8, depth: 2, heads: 2, expansion: 2, patch: 2 },
      { input: { name: 'x', dims: dims.vit }, output: { name: 'scores', classes: CLASSES } },
      1,
    ),
  mlp: () => buildNetwork({ kind: 'mlp', hidden: [8, 5] }, { input: { name: 'x', dims: dims.mlp }, output: { name: 'scores', classes: CLASSES } }, 1),
  cnn: convolutional,
  normalized: () =>
    buildNetwork({ kind: 'cnn', channels: [4], hidden: [5] }, { input: { name: 'x', dims: dims.cnn }, output: { name: 'scores', classes: CLASSES } }, 1),
}

/** One weight in three places, one of them past a skip connection. */
function sharing(): Model {
  return makeModel({
    inputs: [valueInfo('x', 'float32', ['n', ...dims.shared])],
    outputs: [valueInfo('scores', 'float32', ['n', CLASSES])],
    nodes: [
      node('MatMul', ['x', 'w'], ['a']),
      node('Tanh', ['a'], ['b']),
      node('MatMul', ['b', 'w'], ['c']),
      node('Tanh', ['c'], ['d']),
      node('Add', ['d', 'b'], ['e']),
      node('MatMul', ['e', 'w'], ['f']),
      node('Add', ['f', 'b'], ['g']),
      node('Mul', ['g', 'd'], ['h']),
      node('Gemm', ['h', 'v', 'bias'], ['scores']),
    ],
    initializers: [
      tensorProto('w', 'float32', [6, 6], noise([6, 6], 3).data as Float32Array<ArrayBuffer>),
      tensorProto('v', 'float32', [6, CLASSES], noise([6, CLASSES], 4).data as Float32Array<ArrayBuffer>),
      tensorProto('bias', 'float32', [CLASSES], noise([CLASSES], 5).data as Float32Array<ArrayBuffer>),
    ],
  })
}

export type Network = keyof typeof dims

/** A convolution without normalization, and one dense layer. */
function convolutional(): Model {
  const [kernels, features] = [4, 4 * 3 * 3]
  return makeModel({
    inputs: [valueInfo('x', 'float32', ['n', ...dims.cnn])],
    outputs: [valueInfo('scores', 'float32', ['n', CLASSES])],
    nodes: [node('Conv', ['x', 'k', 'kb'], ['c']), node('Relu', ['c'], ['r']), node('Flatten', ['r'], ['f']), node('Gemm', ['f', 'w', 'b'], ['scores'])],
    initializers: [
      tensorProto('k', 'float32', [kernels, 2, 3, 3], noise([kernels, 2, 3, 3], 3).data as Float32Array<ArrayBuffer>),
      tensorProto('kb', 'float32', [kernels], noise([kernels], 4).data as Float32Array<ArrayBuffer>),
      tensorProto('w', 'float32', [features, CLASSES], noise([features, CLASSES], 5).data as Float32Array<ArrayBuffer>),
      tensorProto('b', 'float32', [CLASSES], noise([CLASSES], 6).data as Float32Array<ArrayBuffer>),
    ],
  })
}

function rowsFor(network: Network): Dataset {
  const shape = dims[network]
  const size = elementCount(shape)
  const values = noise([ROWS, size], 7).data as Float32Array
  return {
    rows: ROWS,
    read: (rows) => ({
      x: {
        dtype: 'float32',
        dims: [rows.length, ...shape],
        data: Float32Array.from(rows.flatMap((row) => [...values.subarray(row * size, (row + 1) * size)])),
      },
      labels: { dtype: 'int64', dims: [rows.length], data: BigInt64Array.from(rows, (row) => BigInt((row * 7) % CLASSES)) },
    }),
  }
}

export interface TrainedBy {
  network: Network
  settings: Record<string, unknown>
  /** Absent: one process. */
  ranks?: Ranks
  /** In place of ranks. */
  openEngine?: TrainOptions['openEngine']
  steps?: number
  resume?: TrainState
  newsEvery?: number
  onNews?(step: number): void
}

export interface Trained {
  state: TrainState
  losses: number[]
}

export async function trained({ network, settings: given, ranks, openEngine, steps = 20, resume, newsEvery, onNews }: TrainedBy): Promise<Trained> {
  const settings = completeSettings({ batchSize: 8, ...given })
  const step = { settings, prediction: 'scores', labelled: true }
  const model = networks[network]()
  const losses: number[] = []
  let state: TrainState | undefined
  for await (const news of train({
    model,
    data: rowsFor(network),
    ...stepOptions(step),
    learningRate: (at) => settings.learningRate / (1 + 0.1 * at),
    batchSize: settings.batchSize,
    parts: settings.parts,
    steps,
    seed: 3,
    threads: 1,
    freeze: settings.freeze,
    ...(resume === undefined ? {} : { resume }),
    ...(newsEvery === undefined ? {} : { newsEvery }),
    ...(openEngine === undefined ? {} : { openEngine }),
    ...(ranks === undefined
      ? {}
      : {
          openEngine: (form) =>
            openCoordinator({ ranks, plan: { model: encodeModel(model), step, threads: 1 }, state: carriedBy({ ...stepOptions(step), form }), waitMs: 0 }),
        }),
  })) {
    losses.push(...news.losses)
    state = news.state
    onNews?.(news.step)
  }
  return { state: state as TrainState, losses }
}

/** Largest difference of two trainings' states, over all vectors. */
export function distance(one: TrainState, other: TrainState, names = Object.keys(other.vectors)): number {
  return Math.max(
    ...names.map((name) => {
      const [a, b] = [one.vectors[name] as Float32Array, other.vectors[name] as Float32Array]
      if (a.length !== b.length) return Infinity
      return a.reduce((most, value, at) => Math.max(most, Math.abs(value - (b[at] as number))), 0)
    }),
  )
}
