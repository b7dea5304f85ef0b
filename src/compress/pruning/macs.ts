// Multiply-accumulates of each node, from the shapes of its tensors: what pruning channels saves.
import { intAttribute } from '../../onnx/attributes.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'
import { elementCount } from '../../tensor/tensor.js'

/** Sizes of a tensor; undefined where they are not known. */
export type DimsOf = (tensor: string) => readonly number[] | undefined

/** Multiply-accumulates of one run of a graph: convolutions, products and recurrent layers; other operators count 0. */
export function graphMacs({ node }: GraphProto, dimsOf: DimsOf): number {
  return node.reduce((sum, one) => sum + nodeMacs(one, dimsOf), 0)
}

function nodeMacs(node: NodeProto, dimsOf: DimsOf): number {
  const [first, second] = [dimsOf(node.input[0] ?? ''), dimsOf(node.input[1] ?? '')]
  const result = dimsOf(node.output[0] ?? '')
  if (first === undefined || second === undefined) return 0
  switch (node.opType) {
    case 'Conv':
      return elementCount(result ?? []) * elementCount(second.slice(1))
    case 'ConvTranspose':
      return elementCount(first) * elementCount(second.slice(1))
    case 'Gemm':
      return elementCount(result ?? []) * (first[intAttribute(node, 'transA', 0) === 0 ? 1 : 0] ?? 1)
    case 'MatMul':
      return elementCount(result ?? []) * (first.at(-1) ?? 1)
    case 'LSTM':
    case 'GRU':
    case 'RNN':
      return elementCount(first.slice(0, 2)) * (elementCount(second) + elementCount(dimsOf(node.input[2] ?? '') ?? [0]))
    default:
      return 0
  }
}
