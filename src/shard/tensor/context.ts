// What finding blocks needs to know of a model, from its graph and from a run.
import { tensorValues } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import { DataLocation, type GraphProto, type ModelProto } from '../../onnx/proto.js'
import { opsetOf } from '../../onnx/summary.js'
import type { ObservedTensor } from '../../runtime/observe-tensors.js'
import { dtypes } from '../../tensor/tensor.js'
import type { Dataflow } from '../dataflow.js'
import type { BlockContext } from './block.js'
import { elementBytes } from './slice-weights.js'

/** @param observed shapes of tensors that nodes write, of each feed set */
export function blockContext(model: ModelProto & { graph: GraphProto }, flow: Dataflow, observed: ReadonlyMap<string, ObservedTensor>): BlockContext {
  const index = new GraphIndex(model.graph)
  const sets = Math.max(1, ...[...observed.values()].map(({ dims }) => dims.length))
  return {
    index,
    isConstant: (tensor) => flow.constants.has(tensor),
    shapes: {
      opset: opsetOf(model),
      dims(tensor) {
        const stored = index.constantProto(tensor)
        if (stored === undefined) return observed.get(tensor)?.dims
        return elementBytes(stored) === undefined ? undefined : new Array(sets).fill(stored.dims.map(Number))
      },
      ints(tensor) {
        const stored = index.constantProto(tensor)
        return stored === undefined || stored.dataType !== dtypes.int64.onnx || stored.dataLocation === DataLocation.EXTERNAL
          ? undefined
          : Array.from(tensorValues(stored).data as BigInt64Array, Number)
      },
    },
  }
}
