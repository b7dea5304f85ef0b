// Which stage computes which node of a forward pass, for training: shard's partition by counted arithmetic. Measured
// times would be nearer to the truth, but differ from run to run: a training makes the same bits every time.
import { intAttribute } from '../../onnx/attributes.js'
import { usedTensors } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import { partition } from '../../shard/partition.js'
import type { Workload } from '../../shard/stage-costs.js'
import { dtypes, elementCount } from '../../tensor/tensor.js'
import type { Tensors } from '../gradient.js'

/** What an element of any other operator costs, and a byte that is handed over, in operations of a matrix product. */
const [PER_ELEMENT, PER_BYTE] = [16, 4]

export interface ForwardNodes {
  /** In an order in which they can be computed. */
  nodes: readonly NodeProto[]
  tensors: Pick<Tensors, 'dims' | 'dtype'>
}

/**
 * The stage of each tensor that a node writes, so that the slowest stage takes as little as can be found.
 * @throws FlyweightError `invalid_plan` where there are fewer nodes than stages
 */
export function assignStages({ nodes, tensors }: ForwardNodes, stages: number): Map<string, number> {
  const work: Workload = { nodes: nodes.map((node) => ({ ms: costOf(node, tensors), weights: [] })), weights: [], values: valuesOf(nodes, tensors) }
  const devices = Array.from({ length: stages }, (_, stage) => ({ name: `stage ${stage}` }))
  const assignment = partition(work, { devices, msPerByte: PER_BYTE })
  return new Map(nodes.flatMap((node, index) => writtenBy(node).map((name) => [name, assignment[index] as number])))
}

/** Operations of one forward pass; the backward pass takes about twice as many, wherever it is. */
function costOf(node: NodeProto, { dims }: ForwardNodes['tensors']): number {
  const out = elementCount(dims(node.output[0] as string))
  const [first = '', second = ''] = node.input
  switch (node.opType) {
    case 'MatMul':
      return 2 * out * (dims(first).at(-1) ?? 1)
    case 'Gemm':
      return 2 * out * (dims(first)[intAttribute(node, 'transA', 0) === 1 ? 0 : 1] ?? 1)
    case 'Conv':
      return 2 * out * elementCount(dims(second).slice(1))
    case 'ConvTranspose':
      return 2 * elementCount(dims(first)) * elementCount(dims(second).slice(1))
    default:
      return PER_ELEMENT * Math.max(out, ...[...usedTensors(node)].map((name) => elementCount(dims(name))))
  }
}

function valuesOf(nodes: readonly NodeProto[], { dims, dtype }: ForwardNodes['tensors']): Workload['values'] {
  const readers = new Map<string, number[]>()
  for (const [index, node] of nodes.entries()) for (const name of usedTensors(node)) readers.set(name, [...(readers.get(name) ?? []), index])
  return nodes.flatMap((node, producer) =>
    writtenBy(node).flatMap((name) => {
      const consumers = readers.get(name) ?? []
      return consumers.length === 0 ? [] : [{ producer, consumers, bytes: elementCount(dims(name)) * dtypes[dtype(name)].bytes, output: false }]
    }),
  )
}

export function writtenBy(node: NodeProto): string[] {
  return node.output.filter((name) => name !== '')
}
