// What nodes and values of a model cost, measured: times by the runtime's own profile, bytes by the shapes seen.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { usedTensors } from '../onnx/graph.js'
import { saveModel } from '../onnx/load.js'
import { shallowCopy, type GraphProto, type ModelProto, type NodeProto } from '../onnx/proto.js'
import { nodeTimes } from '../runtime/node-times.js'
import { observeTensors, type ObservedTensor } from '../runtime/observe-tensors.js'
import { openSession } from '../runtime/session.js'
import { dtypes, elementCount, type Tensor } from '../tensor/tensor.js'
import { constantsFor, type Dataflow } from './dataflow.js'
import type { Workload } from './stage-costs.js'
import { heldBytes, storedBytes, storedTensors } from './weight-bytes.js'

type Model = ModelProto & { graph: GraphProto }
type Feeds = Readonly<Record<string, Tensor>>

export interface MeasureOptions {
  /** Takes the measured model; the external data of `model` lies here. */
  folder: string
  flow: Dataflow
  observed: ReadonlyMap<string, ObservedTensor>
  /** A micro-batch, that of the first feed set observed. */
  feeds: Feeds
  device?: string
  threads?: number
  runs?: number
}

/** Types and shapes of the tensors of a model whose external data lies in `folder`. @throws what the runtime throws */
export async function observeIn(folder: string, model: Model, feedSets: readonly Feeds[]): Promise<Map<string, ObservedTensor>> {
  const file = join(folder, '.observed.onnx')
  const open = async (observing: ModelProto) => {
    await saveModel(observing, file)
    return openSession(file, { optimization: 'disabled' })
  }
  try {
    return await observeTensors(model, feedSets, { open })
  } finally {
    await Promise.all([file, `${file}.data`].map((each) => rm(each, { force: true })))
  }
}

/**
 * The model as a workload: milliseconds of nodes on this device as the runtime runs them after its fusions, each fused
 * kernel counted for the last node it can be told to come from; bytes for one micro-batch.
 * @throws what the runtime throws
 */
export async function measureWorkload(model: Model, options: MeasureOptions): Promise<Workload> {
  const { flow, observed } = options
  const times = await timesByNode(model, options)
  const weights: number[] = []
  const places = new Map<string | NodeProto, number>()
  const place = (key: string | NodeProto, bytes: () => number): number => {
    const found = places.get(key) ?? weights.push(bytes()) - 1
    places.set(key, found)
    return found
  }
  const stored = storedTensors(model.graph)
  return {
    nodes: flow.nodes.map((node) => {
      const constants = constantsFor(usedTensors(node), flow)
      const own = [...constants.stored].map((name) => place(name, () => (stored.get(name) ?? []).reduce((sum, tensor) => sum + storedBytes(tensor), 0)))
      const held = [...constants.nodes].map((each) => place(each, () => heldBytes(each)))
      return { ms: times.get(node) ?? 0, weights: heldBytes(node) > 0 ? [...own, ...held, place(node, () => heldBytes(node))] : [...own, ...held] }
    }),
    weights,
    values: flow.values.map(({ name, ...value }) => ({ ...value, bytes: valueBytes(observed.get(name)) })),
  }
}

/** Time that cannot be told to come from any node is shared out by what the others take. */
async function timesByNode(model: Model, { folder, flow, feeds, device = 'cpu', threads = 1, runs = 9 }: MeasureOptions): Promise<Map<NodeProto, number>> {
  const named = shallowCopy(model)
  const graph = shallowCopy(model.graph)
  const byName = new Map<string, NodeProto>()
  // Nodes may have no names, or share one.
  graph.node = model.graph.node.map((node, index) => {
    const copy = shallowCopy(node)
    copy.name = `node-${index}`
    byName.set(copy.name, node)
    return copy
  })
  named.graph = graph
  for (const node of flow.nodes) for (const output of node.output) if (!byName.has(output)) byName.set(output, node)
  const file = join(folder, '.measured.onnx')
  await saveModel(named, file)
  try {
    const times = new Map<NodeProto, number>()
    let [known, total] = [0, 0]
    for (const { name, microseconds } of await nodeTimes(file, { feeds, device, threads, runs })) {
      const node = byName.get(name)
      total += microseconds
      if (node === undefined) continue
      known += microseconds
      times.set(node, (times.get(node) ?? 0) + microseconds)
    }
    for (const [node, microseconds] of times) times.set(node, (microseconds / 1000) * (known > 0 ? total / known : 1))
    return times
  } finally {
    await Promise.all([file, `${file}.data`].map((each) => rm(each, { force: true })))
  }
}

function valueBytes(observed: ObservedTensor | undefined): number {
  return observed === undefined ? Infinity : elementCount(observed.dims[0] ?? []) * (dtypes[observed.dtype].bytes || STRING_BYTES)
}

/** Strings have no fixed size. */
const STRING_BYTES = 16
