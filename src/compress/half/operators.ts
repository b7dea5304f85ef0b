// Which operators may compute in half precision, whatever their values are. Which nodes their values keep out is
// found by search.ts.
import { attribute, intAttribute } from '../../onnx/attributes.js'
import type { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'

/** They lose their meaning, their range or their kernel in half precision. */
const BLOCKED = new Set([
  'ArrayFeatureExtractor',
  'Bernoulli',
  'BlackmanWindow',
  'ConcatFromSequence',
  'Constant',
  'ConstantOfShape',
  'ConvInteger',
  'CumSum',
  'DequantizeLinear',
  'DynamicQuantizeLinear',
  'EyeLike',
  'GRU',
  'HammingWindow',
  'HannWindow',
  'LSTM',
  'MatMulInteger',
  'Max',
  'MelWeightMatrix',
  'Min',
  'Multinomial',
  'NonMaxSuppression',
  'Optional',
  'OptionalGetElement',
  'QLinearConv',
  'QLinearMatMul',
  'QuantizeLinear',
  'RNN',
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
  'Range',
  'Resize',
  'RoiAlign',
  'SequenceAt',
  'SequenceConstruct',
  'SequenceErase',
  'SequenceInsert',
  'SplitToSequence',
  'TfIdfVectorizer',
  'TopK',
  'Upsample',
])
/** Blocked for their arithmetic; their weights may be stored in half precision all the same. */
const RECURRENT = new Set(['GRU', 'LSTM', 'RNN'])
/** Owners of subgraphs whose insides may be converted: tensors go in and out in float32, or as the branches write them. */
const STEERING = new Set(['If', 'Loop', 'Scan'])

/** Why a node that handles floats cannot compute in half precision; undefined where it can. */
export function operatorRefusal({ opType, domain }: NodeProto): string | undefined {
  if (domain !== '' && domain !== 'ai.onnx') return `operators of ${domain} stay float32`
  return BLOCKED.has(opType) ? `${opType} stays float32: half precision would change its meaning, or it has no such kernel` : undefined
}

/** Whether a node is recurrent: weights, recurrence weights and bias at inputs 1 to 3. */
export function isRecurrent({ opType, domain }: NodeProto): boolean {
  return RECURRENT.has(opType) && (domain === '' || domain === 'ai.onnx')
}

export function isSteering({ opType, domain }: NodeProto): boolean {
  return STEERING.has(opType) && (domain === '' || domain === 'ai.onnx')
}

/** The ONNX element type that a Cast converts to; undefined for other nodes. */
export function castTarget(node: NodeProto): number | undefined {
  return node.opType === 'Cast' && attribute(node, 'to') !== undefined ? intAttribute(node, 'to') : undefined
}

export const [FLOAT, HALF] = [dtypes.float32.onnx, dtypes.float16.onnx]

/**
 * Nodes of quantized arithmetic, whose scales are float32: what reads codes or writes them, and the
 * Cast and Mul that turn integer sums into numbers. Half precision would break the int8 kernels, and sums overflow it.
 */
export function integerArithmetic(graph: GraphProto, index: GraphIndex): Set<NodeProto> {
  const found = new Set<NodeProto>()
  for (const node of graph.node) {
    const producers = node.input.map((tensor) => index.producer(tensor))
    const reads = producers.some(
      (producer) => producer !== undefined && /^(DequantizeLinear|DynamicQuantizeLinear|MatMulInteger|ConvInteger)$/.test(producer.opType),
    )
    const rescales = node.opType === 'Mul' && producers.some((producer) => producer?.opType === 'Cast' && found.has(producer))
    const writes = node.output.some((tensor) => index.consumers(tensor).some(({ opType }) => opType === 'QuantizeLinear'))
    if (reads || rescales || writes) found.add(node)
  }
  return found
}
