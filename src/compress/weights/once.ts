// Makes what replaces a stored tensor once, however many nodes read it: tied weights stay tied.
import type { TensorProto } from '../../onnx/proto.js'

/** `make()` for the first call with a tensor and key, the same result for the others. */
export type Once = <Made>(tensor: TensorProto, key: string, make: () => Made) => Made

export function once(): Once {
  const known = new Map<TensorProto, Map<string, unknown>>()
  return <Made>(tensor: TensorProto, key: string, make: () => Made): Made => {
    const ofTensor = known.get(tensor) ?? new Map<string, unknown>()
    known.set(tensor, ofTensor)
    if (!ofTensor.has(key)) ofTensor.set(key, make())
    return ofTensor.get(key) as Made
  }
}
