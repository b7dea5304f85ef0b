// Writes a plan for TensorRT into a graph: int8 activations with one scale a tensor, int8 weights with one scale a
// channel, every zero point 0. Biases stay float. ONNX Runtime computes the same numbers on a CPU, without gain.
import { intAttribute } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto } from '../../onnx/proto.js'
import { quantizeChannels, symmetricScale, type Range } from './affine.js'
import { leastScales } from './qdq.js'
import type { TensorRtPlan } from './tensorrt-plan.js'

export interface TensorRtQdqOptions {
  plan: TensorRtPlan
  /** Of every tensor of `quantizedTensors`. */
  ranges: ReadonlyMap<string, Range>
  /** Makes a name that the model does not have. */
  uniqueName: (base: string) => string
}

/** The activations that get a Q/DQ pair: each one, whoever reads it. */
export function quantizedTensors({ weighted, residual }: TensorRtPlan): string[] {
  return [...new Set([...[...weighted].map(({ input }) => input[0]!), ...residual.values()])]
}

/** Rewrites `graph` in place. */
export function insertTensorRtQdq(graph: GraphProto, { plan, ranges, uniqueName }: TensorRtQdqOptions): void {
  const index = new GraphIndex(graph)
  const nodes: NodeProto[] = []
  const dequantized = new Map<string, string>()
  const zero = uniqueName('int8::zero')
  if (plan.weighted.size > 0) graph.initializer.push(tensorProto(zero, 'int8', [], [0]))

  const activation = (tensor: string): string => {
    const known = dequantized.get(tensor)
    if (known !== undefined) return known
    const range = ranges.get(tensor)
    if (range === undefined) throw new Error(`tensor "${tensor}" was not calibrated`)
    const [scale, codes, result] = [uniqueName(`${tensor}::scale`), uniqueName(`${tensor}::q`), uniqueName(`${tensor}::dq`)]
    graph.initializer.push(tensorProto(scale, 'float32', [], [symmetricScale(range)]))
    nodes.push(makeNode('QuantizeLinear', [tensor, scale, zero], [codes]), makeNode('DequantizeLinear', [codes, scale, zero], [result]))
    dequantized.set(tensor, result)
    return result
  }
  const weights = (node: NodeProto): string => {
    const [input = '', name = '', bias = ''] = node.input
    const axis = channelAxis(node)
    const { dims, data } = index.constant(name)!
    const values = data as Float32Array
    const { codes, scales } =
      axis === undefined
        ? quantizeChannels(values, { dims: [1, values.length], axis: 0, limit: 127 })
        : quantizeChannels(values, { dims, axis, limit: 127, ...biasLimit(bias, input, dims[axis]!) })
    const key = `${name} by ${scales.join(' ')}`
    const known = dequantized.get(key)
    if (known !== undefined) return known
    const [codeName, scale, zeros] = [uniqueName(`${name}::weight.q`), uniqueName(`${name}::weight.scale`), uniqueName(`${name}::weight.zero`)]
    const shape = axis === undefined ? [] : [scales.length]
    graph.initializer.push(tensorProto(codeName, 'int8', dims, codes), tensorProto(scale, 'float32', shape, scales))
    graph.initializer.push(tensorProto(zeros, 'int8', shape, new Int8Array(scales.length)))
    const result = uniqueName(`${name}::weight.dq`)
    nodes.push(makeNode('DequantizeLinear', [codeName, scale, zeros], [result], axis === undefined ? {} : { attributes: { axis } }))
    dequantized.set(key, result)
    return result
  }
  /** ONNX Runtime makes an int32 of a float bias between int8 tensors by itself, on the scale of the products. */
  const biasLimit = (bias: string, input: string, channels: number): { leastScales?: Float32Array } => {
    const values = bias === '' ? undefined : (index.constant(bias)?.data as Float32Array | undefined)
    return values?.length === channels ? { leastScales: leastScales(values, symmetricScale(ranges.get(input)!)) } : {}
  }

  for (const node of graph.node) {
    const residual = plan.residual.get(node)
    if (plan.weighted.has(node)) node.input = [activation(node.input[0]!), weights(node), ...node.input.slice(2)]
    else if (residual !== undefined) node.input = node.input.map((name) => (name === residual ? activation(name) : name))
    nodes.push(node)
  }
  graph.node = nodes
}

/**
 * The axis of output channels. Undefined, for one scale, where TensorRT has no kernel with one an output channel:
 * transposed convolutions (https://github.com/NVIDIA/TensorRT/issues/2380).
 */
function channelAxis(node: NodeProto): number | undefined {
  if (node.opType === 'ConvTranspose') return undefined
  return node.opType === 'Conv' || (node.opType === 'Gemm' && intAttribute(node, 'transB', 0) !== 0) ? 0 : 1
}
