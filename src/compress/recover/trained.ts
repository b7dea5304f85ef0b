// Which weights of a pruned model training may change.
import { dtypes } from '../../tensor/tensor.js'
import { labelOf } from '../passes/decisions.js'
import type { Model } from '../passes/pass.js'

/** Names of what nodes of these names read: it stays as it is. */
export function frozenInputs({ graph }: Model, exclude: ReadonlySet<string>): Set<string> {
  return new Set(graph.node.filter((node) => exclude.has(labelOf(node))).flatMap(({ input }) => input))
}

/** Names of the weights of rank 2 and up: zeros in them are there because a step said so, and stay. */
export function sparseWeights({ graph }: Model): Set<string> {
  return new Set(graph.initializer.filter(({ dims, dataType }) => dims.length >= 2 && dataType === dtypes.float32.onnx).map(({ name }) => name))
}
