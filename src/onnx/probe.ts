// Shapes and types of every intermediate tensor by running the model: every node output becomes a graph
// output, and several feed sets (two batch sizes, two lengths) show which dimensions vary. Exact for every
// operator, without inference rules. The runtime is handed in: this layer does not know it.
import type { DType, Tensor } from '../tensor/tensor.js'
import { dtypeOf } from './builder.js'
import { create, encodeModel, shallowCopy, ValueInfoProtoSchema, type GraphProto, type ModelProto, type NodeProto } from './proto.js'

export interface ProbedTensor {
  dtype: DType
  /** −1 where the feed sets gave different sizes. */
  dims: number[]
}

/** Runs a model given as bytes, with optimizations disabled, and returns the tensors named by `fetches`. */
export type ProbeRun = (modelBytes: Uint8Array<ArrayBuffer>, feeds: Record<string, Tensor>, fetches: string[]) => Promise<Record<string, Tensor>>

/**
 * Observes all inputs, initializers and node outputs of the top-level graph over `feedSets` (at least one).
 * Tensors that are sequences, or whose rank differs between feed sets, are left out. Throws what `run` throws.
 */
export async function probeShapes(
  model: ModelProto & { graph: GraphProto },
  feedSets: readonly Record<string, Tensor>[],
  run: ProbeRun,
): Promise<Map<string, ProbedTensor>> {
  const fetches = model.graph.node.filter(writesTensors).flatMap((node) => node.output.filter((name) => name !== ''))
  const bytes = encodeModel(withOutputs(model, fetches))
  const probed = initializerShapes(model.graph)
  const uneven = new Set<string>()
  for (const feeds of feedSets) {
    const seen = { ...feeds, ...(await run(bytes, feeds, fetches)) }
    for (const [name, { dtype, dims }] of Object.entries(seen)) {
      const before = probed.get(name)
      if (before && before.dims.length !== dims.length) uneven.add(name)
      probed.set(name, { dtype, dims: before ? before.dims.map((dim, axis) => (dim === dims[axis] ? dim : -1)) : [...dims] })
    }
  }
  for (const name of uneven) probed.delete(name)
  return probed
}

function writesTensors({ opType }: NodeProto): boolean {
  return !/^(Sequence(Construct|Empty|Erase|Insert|Map)|SplitToSequence|Optional)$/.test(opType)
}

function withOutputs(model: ModelProto & { graph: GraphProto }, names: readonly string[]): ModelProto {
  const declared = new Set(model.graph.output.map(({ name }) => name))
  const graph = shallowCopy(model.graph)
  graph.output = [...graph.output, ...names.filter((name) => !declared.has(name)).map((name) => create(ValueInfoProtoSchema, { name }))]
  const extended = shallowCopy(model)
  extended.graph = graph
  return extended
}

function initializerShapes(graph: GraphProto): Map<string, ProbedTensor> {
  const shapes = new Map<string, ProbedTensor>()
  for (const { name, dataType, dims } of graph.initializer) {
    const dtype = dtypeOf(dataType)
    if (dtype) shapes.set(name, { dtype, dims: dims.map(Number) })
  }
  return shapes
}
