// What the parts of dynamic quantization share while they go through a model.
import type { GraphProto, TensorProto } from '../../onnx/proto.js'
import type { Once } from '../weights/once.js'

export interface DynamicContext {
  /** A tensor name that nothing in the model has. */
  unique: (base: string) => string
  once: Once
  /** Tables whose rows are stored in int8. */
  tables: ReadonlySet<TensorProto>
  /** Activations quantized so far, by the graph that computes the codes: graphs inside it see them too. */
  activations: Map<GraphProto, Map<string, ActivationCodes>>
}

/** Tensors that DynamicQuantizeLinear writes. */
export interface ActivationCodes {
  codes: string
  scale: string
  zeroPoint: string
}
