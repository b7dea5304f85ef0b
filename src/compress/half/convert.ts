// The conversion of a graph to half precision, node by node, and which operators stay in float32 whatever their
// values are. Which nodes their values keep out is found by search.ts.
import type { NodeDecision } from '../../measurements.js'
import { intAttribute, setAttribute, subgraphs } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto, tensorValues } from '../../onnx/builder.js'
import { capturedTensors, GraphIndex } from '../../onnx/graph.js'
import { tensorNames } from '../../onnx/names.js'
import type { GraphProto, NodeProto, TensorProto } from '../../onnx/proto.js'
import { float16From } from '../../tensor/float16.js'
import { dtypes } from '../../tensor/tensor.js'
import { labelOf } from '../passes/decisions.js'
import type { Model } from '../passes/pass.js'

/** They lose their meaning, their range or their kernel in half precision. */
const BLOCKED = new Set([
  'ArrayFeatureExtractor',
  'Bernoulli',
  'BlackmanWindow',
  'ConcatFromSequence',
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
const [FLOAT, HALF] = [dtypes.float32.onnx, dtypes.float16.onnx]
export const LARGEST = 65504
/** The least positive half: smaller values would become zero. */
const LEAST = 2 ** -24

interface HalveOptions {
  /** The float32 tensors of the outermost graph. */
  floats: ReadonlySet<string>
  /** Labels of nodes to leave in float32, each with the reason. */
  keep: ReadonlyMap<string, string>
  rounded?: boolean
}

/**
 * Converts a prepared graph in place. A tensor keeps its name for its float32 form and gets `::half` for the
 * other; Casts are made where a form is wanted that nobody writes. Subgraphs read the float32 forms. `rounded` makes
 * of it the same arithmetic for processors without half precision: every node computes in float32 between Casts that
 * the model itself holds, which the runtime, unlike those that it inserts, does not take out again.
 */
export function halve(model: Model, { floats, keep, rounded = false }: HalveOptions): NodeDecision[] {
  const { graph } = model
  const index = new GraphIndex(graph)
  const integer = integerArithmetic(graph, index)
  const unique = tensorNames(model)
  const halves = new Map<string, string>()
  const halfOf = (tensor: string): string => {
    const name = halves.get(tensor) ?? unique(`${tensor}::half`)
    halves.set(tensor, name)
    return name
  }
  const written = new Map<string, 'float' | 'half'>()
  const available = new Set<string>()
  const nodes: NodeProto[] = []
  const decisions: NodeDecision[] = []
  const wanted = (tensor: string, form: 'float' | 'half'): string => {
    if (!floats.has(tensor)) return tensor
    const name = form === 'half' ? halfOf(tensor) : tensor
    const constant = index.initializer(tensor)
    if ((written.get(tensor) ?? 'float') === form || available.has(name)) return name
    available.add(name)
    if (constant !== undefined) graph.initializer.push(halfConstant(constant, name))
    else {
      const [from, to] = form === 'half' ? [tensor, HALF] : [halfOf(tensor), FLOAT]
      nodes.push(makeNode('Cast', [from], [name], { attributes: { to }, name: unique(`${name}::cast`) }))
    }
    return name
  }
  const roundedInput = (tensor: string): string => {
    const half = wanted(tensor, 'half')
    const name = `${half}::rounded`
    if (half === tensor || available.has(name)) return half === tensor ? tensor : name
    available.add(name)
    nodes.push(makeNode('Cast', [half], [name], { attributes: { to: FLOAT }, name: unique(`${name}::cast`) }))
    return name
  }
  const roundOutputs = (node: NodeProto): void => {
    const outputs = node.output.filter((tensor) => floats.has(tensor))
    node.output = node.output.map((tensor) => (floats.has(tensor) ? `${halfOf(tensor)}::exact` : tensor))
    nodes.push(node)
    for (const output of outputs) {
      written.set(output, 'half')
      nodes.push(makeNode('Cast', [`${halfOf(output)}::exact`], [halfOf(output)], { attributes: { to: HALF }, name: unique(`${halfOf(output)}::cast`) }))
    }
  }
  for (const node of graph.node) {
    const refusal = integer.has(node) ? 'it is part of int8 arithmetic, which has float32 scales' : refusalOf(node, floats, keep)
    decisions.push({
      node: labelOf(node),
      opType: node.opType,
      pass: 'fp16',
      action: refusal === undefined ? 'done' : 'skipped',
      reason: refusal ?? 'computes in half precision',
    })
    const form = refusal === undefined ? 'half' : 'float'
    node.input = node.input.map((tensor) => (form === 'half' && rounded ? roundedInput(tensor) : wanted(tensor, form)))
    for (const inner of subgraphs(node)) for (const captured of capturedTensors(inner)) wanted(captured, 'float')
    if (form === 'half' && rounded) {
      roundOutputs(node)
      continue
    }
    if (form === 'half') {
      if (node.opType === 'Cast') setAttribute(node, 'to', HALF)
      for (const output of node.output) if (floats.has(output)) written.set(output, 'half')
      node.output = node.output.map((tensor) => (floats.has(tensor) ? halfOf(tensor) : tensor))
    }
    nodes.push(node)
  }
  for (const { name } of graph.output) wanted(name, 'float')
  graph.node = nodes
  graph.valueInfo = graph.valueInfo.filter(({ name }) => written.get(name) !== 'half')
  return decisions
}

function refusalOf(node: NodeProto, floats: ReadonlySet<string>, keep: ReadonlyMap<string, string>): string | undefined {
  const kept = keep.get(labelOf(node))
  if (kept !== undefined) return kept
  if (node.domain !== '' && node.domain !== 'ai.onnx') return `operators of ${node.domain} stay float32`
  if (BLOCKED.has(node.opType)) return `${node.opType} stays float32: half precision would change its meaning, or it has no such kernel`
  if (subgraphs(node).length > 0) return 'its subgraphs stay float32'
  if (node.opType === 'Cast') return intAttribute(node, 'to') === FLOAT ? undefined : 'it converts to another type'
  const touches = [...node.input, ...node.output].some((tensor) => floats.has(tensor))
  return touches ? undefined : 'it handles no float values'
}

/**
 * Nodes of quantized arithmetic, whose scales are float32: what reads codes or writes them, and the
 * Cast and Mul that turn integer sums into numbers. Half precision would break the int8 kernels, and sums overflow it.
 */
function integerArithmetic(graph: GraphProto, index: GraphIndex): Set<NodeProto> {
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

function halfConstant(proto: TensorProto, name: string): TensorProto {
  const { data, dims } = tensorValues(proto)
  return tensorProto(name, 'float16', dims, float16From((data as Float32Array).map(representable)))
}

/** Finite values stay finite, and not zero: what overflows becomes the largest half, what vanishes the least. */
function representable(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value
  return Math.sign(value) * Math.min(LARGEST, Math.max(LEAST, Math.abs(value)))
}
