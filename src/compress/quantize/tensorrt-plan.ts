// Where TensorRT wants Q/DQ pairs in a prepared graph. Pure: reads the graph, changes nothing. The rules are the
// placement recommendations of "Working with Quantized Types"
// (https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html): quantize all
// inputs of weighted operations, not their outputs, and the residual input of an addition that a convolution feeds.
import type { NodeDecision } from '../../measurements.js'
import { floatAttribute, intAttribute } from '../../onnx/attributes.js'
import { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'
import { labelOf } from '../passes/decisions.js'
import { isDepthwise, type PlanOptions } from './plan.js'

/** Operations that TensorRT computes in int8 when their inputs are quantized. */
const WEIGHTED = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul'])

export interface TensorRtPlan {
  /** Weighted nodes: input 0 gets a Q/DQ pair, input 1 becomes dequantized int8 weights. */
  weighted: ReadonlySet<NodeProto>
  /** Additions fused into the convolution before them → the input that gets a Q/DQ pair. */
  residual: ReadonlyMap<NodeProto, string>
  decisions: NodeDecision[]
}

export function planTensorRt(graph: GraphProto, options: Pick<PlanOptions, 'depthwise' | 'exclude'>): TensorRtPlan {
  const index = new GraphIndex(graph)
  const depths = depthsOf(graph, index)
  const weighted = new Set<NodeProto>()
  const residual = new Map<NodeProto, string>()
  const decisions = graph.node.map((node): NodeDecision => {
    const decided = (action: NodeDecision['action'], reason: string) => ({ node: labelOf(node), opType: node.opType, pass: 'int8-static', action, reason })
    if (options.exclude.has(labelOf(node))) return decided('skipped', 'excluded by the recipe')
    if (node.domain === '' && WEIGHTED.has(node.opType)) {
      const refusal = weightedRefusal(node, index, options)
      if (refusal !== undefined) return decided('skipped', refusal)
      weighted.add(node)
      return decided('done', 'weights and input in symmetric int8; bias and output stay float, as TensorRT fuses them')
    }
    const input = residualInput(node, { index, weighted, depths })
    if (input === undefined) return decided('skipped', 'TensorRT fuses it, moves quantization through it, or computes it in float: it needs no Q/DQ')
    residual.set(node, input)
    return decided('done', `its residual input "${input}" is in int8, so that TensorRT fuses the addition into the convolution before it`)
  })
  return { weighted, residual, decisions }
}

function weightedRefusal(node: NodeProto, index: GraphIndex, { depthwise }: Pick<PlanOptions, 'depthwise'>): string | undefined {
  const { opType } = node
  const weight = index.constantProto(node.input[1] ?? '')
  if (weight === undefined) return opType === 'MatMul' ? 'it has no constant right operand' : 'its weights are not constant'
  if (weight.dataType !== dtypes.float32.onnx) return 'its weights are not float32'
  if (index.constantProto(node.input[0] ?? '') !== undefined) return 'it computes with constants only'
  if ((opType === 'MatMul' || opType === 'Gemm') && weight.dims.length !== 2) return `its weights have rank ${weight.dims.length}, not 2`
  if (opType === 'Gemm' && (floatAttribute(node, 'alpha', 1) !== 1 || intAttribute(node, 'transA', 0) !== 0))
    return 'it scales or transposes what it multiplies'
  if (opType === 'Conv' && !depthwise && isDepthwise(node, weight.dims)) return 'depthwise convolutions are to stay in float'
  return undefined
}

interface Surroundings {
  index: GraphIndex
  weighted: ReadonlySet<NodeProto>
  depths: ReadonlyMap<string, number>
}

/**
 * The input of an addition that comes by the shorter way, where the other comes from a quantized convolution that
 * nothing else reads: with both in float, the convolution's output could not be int8. Two convolutions: the longer way is the fused one.
 */
function residualInput({ opType, domain, input }: NodeProto, { index, weighted, depths }: Surroundings): string | undefined {
  const [left = '', right = ''] = input
  if (opType !== 'Add' || domain !== '' || left === right) return undefined
  if (input.some((name) => index.constantProto(name) !== undefined)) return undefined
  const isFusable = (name: string) => {
    const producer = index.producer(name)
    return producer?.opType === 'Conv' && weighted.has(producer) && index.consumers(name).length === 1 && !index.isOutput(name)
  }
  const [fusable] = [left, right].filter(isFusable).sort((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0))
  return fusable === undefined ? undefined : fusable === left ? right : left
}

/** Nodes on the longest way from an input to each tensor. */
function depthsOf(graph: GraphProto, index: GraphIndex): Map<string, number> {
  const depths = new Map<string, number>()
  for (const node of graph.node) {
    const depth = node.opType === 'Constant' ? 0 : 1 + Math.max(0, ...node.input.map((name) => (index.producer(name) ? (depths.get(name) ?? 0) : 0)))
    for (const name of node.output) depths.set(name, depth)
  }
  return depths
}
