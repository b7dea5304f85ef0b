// Which nodes of a prepared graph become int8 kernels, and which tensors carry Q/DQ pairs for it. Pure: reads
// the graph, changes nothing. The rules are those of ONNX Runtime's QDQ fusions on CPUs
// (onnxruntime/core/optimizer/qdq_transformer): a node becomes an int8 kernel only if each of its data
// inputs comes from a DequantizeLinear and its output goes into a single QuantizeLinear.
import type { NodeDecision } from '../../measurements.js'
import { attribute, floatAttribute, intAttribute } from '../../onnx/attributes.js'
import { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'
import { tensorElements } from '../elements.js'
import { labelOf } from '../passes/decisions.js'
import { scalarAffine, type ScalarAffine } from './scalar-nodes.js'

/** They do the arithmetic: int8 pays for the conversions around them. */
const COMPUTE = new Set(['Conv', 'Gemm', 'MatMul'])
/** They keep a chain of int8 kernels unbroken; alone they are not worth a conversion. */
const CARRY = new Set([
  'Add',
  'Mul',
  'Concat',
  'AveragePool',
  'GlobalAveragePool',
  'MaxPool',
  'Sigmoid',
  'HardSigmoid',
  'LeakyRelu',
  'Transpose',
  'Reshape',
  'Flatten',
  'Squeeze',
  'Unsqueeze',
  'Resize',
])
/** Their output has the scale of their input, because they only move values. */
const MOVES = new Set(['Transpose', 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze', 'MaxPool', 'Resize'])

export interface PlanOptions {
  /** Quantize depthwise convolutions too. */
  depthwise: boolean
  /** Names of nodes to leave in float. */
  exclude: ReadonlySet<string>
  /** Outputs of shifts (Add of a constant) that no zero point can express well: they are computed. */
  computedShifts: ReadonlySet<string>
}

export interface Plan {
  /** Nodes that become int8 kernels. */
  quantized: ReadonlySet<NodeProto>
  /** Tensor → the tensor whose range and parameters it shares (itself, mostly). */
  parametersOf: ReadonlyMap<string, string>
  /** Tensors written by a quantized node: every reader sees the dequantized value. */
  produced: ReadonlySet<string>
  /** Relu, Clip: their clamping is done by the QuantizeLinear of their producer. Node → producer's output. */
  absorbed: ReadonlyMap<NodeProto, string>
  /** Mul, Div, Add, Sub with a constant: the same codes read with another scale and zero point. By output. */
  rescaled: ReadonlyMap<string, ScalarAffine>
  /** Nodes that `rescaled` stands for. */
  free: ReadonlySet<NodeProto>
  decisions: NodeDecision[]
}

/**
 * Decides node by node, in graph order, so that chains of int8 grow from the convolutions and products outward;
 * then cuts chains back to where the last reader computes in int8, because what follows gains nothing from it.
 */
export function planStatic(graph: GraphProto, options: PlanOptions): Plan {
  const index = new GraphIndex(graph)
  const useless = new Set<NodeProto>()
  for (;;) {
    const plan = grow(graph, index, { ...options, useless })
    const readInInt8 = new Set([...plan.quantized].flatMap((node) => dataInputs(node, index)).flatMap((tensor) => aliases(tensor, plan, index)))
    const ends = [...plan.quantized].filter(
      (node) => !COMPUTE.has(node.opType) && !readInInt8.has(node.output[0] ?? '') && index.consumers(node.output[0] ?? '').length > 0,
    )
    if (ends.length === 0) return plan
    for (const node of ends) useless.add(node)
  }
}

/** The tensors whose codes a reader of `tensor` reads: itself, and what it is another reading or clamping of. */
function aliases(tensor: string, plan: Plan, index: GraphIndex): string[] {
  const { input } = rootedAt(tensor, plan.rescaled)
  const producer = index.producer(input)
  const clamped = producer && plan.absorbed.get(producer)
  return clamped === undefined ? [input] : [input, clamped]
}

function grow(graph: GraphProto, index: GraphIndex, options: PlanOptions & { useless: ReadonlySet<NodeProto> }): Plan {
  const quantized = new Set<NodeProto>()
  const parametersOf = new Map<string, string>()
  const produced = new Set<string>()
  const absorbed = new Map<NodeProto, string>()
  const rescaled = new Map<string, ScalarAffine>()
  const free = new Set<NodeProto>()
  const decisions: NodeDecision[] = []
  const decide = (node: NodeProto, action: NodeDecision['action'], reason: string) =>
    decisions.push({ node: labelOf(node), opType: node.opType, pass: 'int8-static', action, reason })

  for (const node of graph.node) {
    if (options.exclude.has(labelOf(node))) {
      decide(node, 'skipped', 'excluded by the recipe')
      continue
    }
    const clamped = clampedProducer(node, index, quantized)
    if (clamped !== undefined) {
      absorbed.set(node, clamped)
      const [output = ''] = node.output
      parametersOf.set(clamped, output)
      parametersOf.set(output, output)
      produced.add(output)
      decide(node, 'done', 'its clamping is part of the quantization of its input')
      continue
    }
    const rescaling = rescalingOf(node, index, { produced, rescaled, parametersOf, computedShifts: options.computedShifts })
    if (rescaling !== undefined) {
      const [output = ''] = node.output
      free.add(node)
      rescaled.set(output, rescaling)
      produced.add(output)
      decide(node, 'done', 'arithmetic with one constant is another reading of the same codes: it costs nothing')
      continue
    }
    const refusal = refusalOf(node, index, { ...options, isQuantized: (tensor) => produced.has(tensor) })
    if (refusal !== undefined) {
      decide(node, 'skipped', refusal)
      continue
    }
    quantized.add(node)
    for (const input of dataInputs(node, index)) if (!parametersOf.has(input)) parametersOf.set(input, input)
    const [output = ''] = node.output
    if (node.opType === 'MatMul') {
      decide(node, 'done', 'inputs in int8; its output stays float, which costs nothing and loses less')
      continue
    }
    const [input = ''] = node.input
    parametersOf.set(output, MOVES.has(node.opType) ? (parametersOf.get(input) ?? input) : output)
    produced.add(output)
    decide(node, 'done', COMPUTE.has(node.opType) ? 'weights, input and output in int8' : 'carries int8 values between int8 nodes')
  }
  return { quantized, parametersOf, produced, absorbed, rescaled, free, decisions }
}

/** Inputs that hold activations, or constants of an elementwise node. */
export function dataInputs(node: NodeProto, index: GraphIndex): string[] {
  switch (node.opType) {
    case 'Conv':
    case 'Gemm':
      return node.input.slice(0, 1)
    case 'MatMul':
      return node.input.filter((name) => index.constantProto(name) === undefined)
    case 'Add':
    case 'Mul':
    case 'Concat':
      return [...node.input]
    default:
      return node.input.slice(0, 1)
  }
}

function refusalOf(
  node: NodeProto,
  index: GraphIndex,
  options: PlanOptions & { useless: ReadonlySet<NodeProto>; isQuantized(tensor: string): boolean },
): string | undefined {
  const { opType } = node
  const compute = COMPUTE.has(opType)
  if (node.domain !== '' && node.domain !== 'ai.onnx') return `operators of ${node.domain} have no int8 kernel here`
  if (!compute && !CARRY.has(opType)) return `${opType} has no int8 kernel that pays`
  if (options.useless.has(node)) return 'nothing that reads its output computes in int8'
  const [output = ''] = node.output
  if (opType !== 'MatMul' && index.isOutput(output)) return 'it writes an output of the model, which stays float'
  if (isCaptured(output, index)) return 'a subgraph reads its output, which stays float'
  if (!compute) {
    const inputs = dataInputs(node, index)
    const isConstant = (tensor: string) => index.constantProto(tensor) !== undefined
    if (inputs.every(isConstant)) return 'it computes with constants only'
    if (!inputs.every((tensor) => isConstant(tensor) || options.isQuantized(tensor))) return 'an input is float: converting it would cost more than int8 saves'
    if (opType === 'Resize' && (attribute(node, 'mode')?.s.length ?? 0) > 0 && Buffer.from(attribute(node, 'mode')!.s).toString() === 'cubic')
      return 'cubic Resize has no int8 kernel'
    if (opType === 'HardSigmoid' && !(floatAttribute(node, 'alpha', 0.2) > 0 && floatAttribute(node, 'beta', 0.5) > 0))
      return 'its slope or offset is not positive'
    if (inputs.length > 1 && new Set(inputs).size === 1 && opType === 'Concat') return 'it concatenates a tensor with itself'
    return undefined
  }
  const weight = index.constantProto(node.input[1] ?? '')
  if (weight === undefined) return opType === 'MatMul' ? 'it has no constant right operand' : 'its weights are not constant'
  if (index.constantProto(node.input[0] ?? '') !== undefined) return 'it computes with constants only'
  if (weight.dataType !== dtypes.float32.onnx) return 'its weights are not float32'
  if (opType !== 'Conv' && weight.dims.length !== 2) return `its weights have rank ${weight.dims.length}, not 2`
  if (opType === 'MatMul') return undefined
  if (opType === 'Gemm' && intAttribute(node, 'transA', 0) !== 0) return 'a transposed left operand has no int8 kernel'
  if (opType === 'Gemm' && (floatAttribute(node, 'alpha', 1) !== 1 || floatAttribute(node, 'beta', 1) !== 1)) return 'it scales its product or bias'
  const bias = node.input[2] ?? ''
  const channels = Number(weight.dims[opType === 'Conv' || intAttribute(node, 'transB', 0) !== 0 ? 0 : 1])
  if (bias !== '' && tensorElements(index.constantProto(bias)?.dims) !== channels) return 'its bias is not a constant with one value a channel'
  if (opType === 'Conv' && !options.depthwise && isDepthwise(node, weight.dims)) return 'depthwise convolutions are faster in float here'
  return undefined
}

interface Rescaling extends Pick<Plan, 'produced' | 'rescaled' | 'parametersOf'> {
  computedShifts: ReadonlySet<string>
}

/** scale · x + shift of an int8 tensor x, with scale > 0; a shift only where the parameters of x can be chosen for it. */
function rescalingOf(node: NodeProto, index: GraphIndex, { produced, rescaled, parametersOf, computedShifts }: Rescaling): ScalarAffine | undefined {
  const affine = scalarAffine(node, index)
  const [output = ''] = node.output
  if (affine === undefined || index.isOutput(output) || isCaptured(output, index) || !produced.has(affine.input) || affine.scale <= 0) return undefined
  if (affine.shift === 0) return affine
  if (computedShifts.has(output)) return undefined
  const root = rootedAt(affine.input, rescaled).input
  const ownsParameters = parametersOf.get(root) === root && !hasFixedParameters(root, index)
  const isFirstShift = ![...rescaled].some(([tensor, { shift }]) => shift !== 0 && rootedAt(tensor, rescaled).input === root)
  return ownsParameters && isFirstShift ? affine : undefined
}

/** What a rescaled tensor is of the tensor whose codes it shares. */
export function rootedAt(tensor: string, rescaled: Plan['rescaled']): ScalarAffine {
  const own = rescaled.get(tensor)
  if (own === undefined) return { input: tensor, scale: 1, shift: 0 }
  const inner = rootedAt(own.input, rescaled)
  return { input: inner.input, scale: inner.scale * own.scale, shift: inner.shift * own.scale + own.shift }
}

/** HardSigmoid is made by saturation, so its codes have one meaning only. */
export function hasFixedParameters(tensor: string, index: GraphIndex): boolean {
  return index.producer(tensor)?.opType === 'HardSigmoid'
}

/** True where a subgraph (of If, Loop, Scan) reads the tensor by its name. */
function isCaptured(tensor: string, index: GraphIndex): boolean {
  return index.consumers(tensor).some(({ input }) => !input.includes(tensor))
}

export function isDepthwise(node: NodeProto, dims: readonly bigint[]): boolean {
  return intAttribute(node, 'group', 1) > 1 && Number(dims[1]) === 1
}

/** The quantized tensor whose QuantizeLinear can do this node's clamping: Relu, or Clip with a lower bound of 0, as only reader. */
function clampedProducer(node: NodeProto, index: GraphIndex, quantized: ReadonlySet<NodeProto>): string | undefined {
  if (node.opType !== 'Relu' && node.opType !== 'Clip') return undefined
  const [input = ''] = node.input
  const producer = index.producer(input)
  if (producer === undefined || !quantized.has(producer) || MOVES.has(producer.opType) || producer.opType === 'MatMul') return undefined
  const [output = ''] = node.output
  if (index.consumers(input).length !== 1 || index.isOutput(input) || index.isOutput(output) || isCaptured(output, index)) return undefined
  if (node.opType === 'Relu') return input
  const low = index.constant(node.input[1] ?? '')
  return low !== undefined && Number(low.data[0]) === 0 ? input : undefined
}
