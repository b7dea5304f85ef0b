// The smallest model that tells by its numbers which one it is.
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'

/** y = factor · x, [n, 4]. */
export function scaleModel(factor: number): Uint8Array<ArrayBuffer> {
  return encodeModel(
    model({
      inputs: [valueInfo('x', 'float32', ['n', 4])],
      outputs: [valueInfo('y', 'float32', ['n', 4])],
      nodes: [node('Mul', ['x', 'factor'], ['y'])],
      initializers: [tensorProto('factor', 'float32', [], [factor])],
    }),
  )
}
