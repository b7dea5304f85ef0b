// A gradient graph in several runs, one after the other: after each, some gradients are finished and can be on their way
// while the next run computes the others. PyTorch's DistributedDataParallel overlaps so (Li et al. 2020, arXiv 2006.15704).
import { model as makeModel, valueInfo } from '../../onnx/builder.js'
import { usedTensors } from '../../onnx/graph.js'
import { encodeModel, type NodeProto } from '../../onnx/proto.js'
import { openSession, type Session } from '../../runtime/session.js'
import { dtypes, elementCount, type DType, type Tensor } from '../../tensor/tensor.js'
import { observeTensors } from '../tensors.js'
import type { Model } from '../training-form.js'

export interface Segments {
  /**
   * Runs all, writing the model's outputs into memory that is given. `onEnd` is called with the number of each segment
   * when its outputs are written; messages sent then leave before the next one begins.
   */
  run(feeds: Readonly<Record<string, Tensor>>, outputs: Readonly<Record<string, Tensor>>, onEnd: (segment: number) => void): Promise<void>
  release(): Promise<void>
}

interface Segment {
  session: Session
  inputs: readonly string[]
  /** Outputs of the model, and what later segments read. */
  outputs: readonly string[]
}

/**
 * @param ends by segment, the outputs of the model that are finished with it; together all of them
 * @param feeds inputs of any values, of the one shape that the model has
 */
export async function openSegments(
  model: Model,
  { ends, feeds, threads }: { ends: readonly (readonly string[])[]; feeds: Readonly<Record<string, Tensor>>; threads: number },
): Promise<Segments> {
  const parts =
    ends.length === 1 ? [{ model, inputs: Object.keys(feeds), outputs: ends[0] as readonly string[], handed: {} }] : await cutByEnds(model, ends, feeds)
  const segments: Segment[] = []
  for (const { model: part, inputs, outputs } of parts) segments.push({ inputs, outputs, session: await openSession(encodeModel(part), { threads }) })
  // What goes from segment to segment is written to the same memory every time.
  const handed: Record<string, Tensor> = Object.assign({}, ...parts.map((part) => part.handed))
  return {
    run: async (given, outputs, onEnd) => {
      const known: Record<string, Tensor> = { ...given, ...handed, ...outputs }
      const pick = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, known[name] as Tensor]))
      for (const [index, segment] of segments.entries()) {
        await segment.session.runInto(pick(segment.inputs), pick(segment.outputs))
        onEnd(index)
      }
    },
    release: async () => {
      for (const { session } of segments) await session.release()
    },
  }
}

interface PartModel extends Omit<Segment, 'session'> {
  model: Model
  /** Memory of what later segments read. */
  handed: Record<string, Tensor>
}

/** Each node is in the first segment whose ends need it. */
async function cutByEnds(model: Model, ends: readonly (readonly string[])[], feeds: Readonly<Record<string, Tensor>>): Promise<PartModel[]> {
  const { graph } = model
  const tensors = await observeTensors(model, feeds)
  const placed = placeNodes(graph.node, ends)
  const producedIn = new Map<string, number>()
  for (const node of graph.node) for (const name of node.output) if (name !== '') producedIn.set(name, placed.get(node) ?? -1)
  const readBehind = new Set<string>()
  for (const [node, segment] of placed) {
    for (const name of usedTensors(node)) if ((producedIn.get(name) ?? segment) < segment) readBehind.add(name)
  }
  const stored = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
  const info = (name: string) => valueInfo(name, tensors.dtype(name), tensors.dims(name))
  const finished = new Set(ends.flat())
  return ends.map((_, segment) => {
    const nodes = graph.node.filter((node) => placed.get(node) === segment)
    const read = new Set(nodes.flatMap((node) => [...usedTensors(node)]))
    const inputs = [...read].filter((name) => !stored.has(name) && producedIn.get(name) !== segment)
    const outputs = [...new Set([...finished, ...readBehind])].filter((name) => producedIn.get(name) === segment)
    const handedOn = outputs.filter((name) => !finished.has(name))
    return {
      inputs,
      outputs,
      handed: Object.fromEntries(handedOn.map((name) => [name, memoryFor(tensors.dtype(name), tensors.dims(name))])),
      model: makeModel({
        name: `${graph.name}_${segment}`,
        inputs: inputs.map(info),
        outputs: outputs.map(info),
        nodes,
        initializers: [...read].flatMap((name) => stored.get(name) ?? []),
      }),
    }
  })
}

function placeNodes(nodes: readonly NodeProto[], ends: readonly (readonly string[])[]): Map<NodeProto, number> {
  const placed = new Map<NodeProto, number>()
  for (const [segment, own] of ends.entries()) {
    const needed = new Set(own)
    for (const node of nodes.toReversed()) {
      if (placed.has(node) || !node.output.some((name) => needed.has(name))) continue
      placed.set(node, segment)
      for (const name of usedTensors(node)) needed.add(name)
    }
  }
  return placed
}

function memoryFor(dtype: DType, dims: readonly number[]): Tensor {
  return { dtype, dims, data: new dtypes[dtype as 'float32'].array(elementCount(dims)) }
}
