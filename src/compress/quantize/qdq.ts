// Writes a plan into a graph as QuantizeLinear/DequantizeLinear pairs and int8 weights. The runtime fuses
// the pairs into int8 kernels; any other runtime computes the same numbers in float.
import { intAttribute } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto, TensorProto } from '../../onnx/proto.js'
import { quantizeChannels, roundHalfEven, uint8Params, type AffineParams, type Range } from './affine.js'
import { dataInputs, type Plan } from './plan.js'

export interface QdqOptions {
  plan: Plan
  /** Of every tensor that parameters are taken of. */
  ranges: ReadonlyMap<string, Range>
  /** Largest weight code: 127, or 63 where u8×s8 products saturate. */
  limit: number
}

/** Rewrites `graph` in place. */
export function insertQdq(graph: GraphProto, { plan, ranges, limit }: QdqOptions): void {
  const index = new GraphIndex(graph)
  const writer = new Writer(index, ranges, plan)
  const nodes: NodeProto[] = []
  for (const node of graph.node) {
    if (plan.absorbed.has(node) || plan.free.has(node)) continue
    const isQuantized = plan.quantized.has(node)
    const before: NodeProto[] = []
    const data = new Set(isQuantized ? dataInputs(node, index) : [])
    node.input = node.input.map((name) => (data.has(name) || plan.produced.has(name) ? writer.dequantized(name, before) : name))
    if (isQuantized && (node.opType === 'Conv' || node.opType === 'Gemm' || node.opType === 'MatMul')) writer.quantizeWeights(node, limit, before)
    nodes.push(...before, node)
  }
  graph.node = nodes
  graph.initializer.push(...writer.initializers)
}

class Writer {
  readonly initializers: TensorProto[] = []
  readonly #index: GraphIndex
  readonly #ranges: ReadonlyMap<string, Range>
  readonly #plan: Plan
  /** Tensor → name of its dequantized form. */
  readonly #dequantized = new Map<string, string>()
  readonly #quantized = new Set<string>()
  readonly #parameters = new Map<string, { params: AffineParams; scale: string; zeroPoint: string }>()

  constructor(index: GraphIndex, ranges: ReadonlyMap<string, Range>, plan: Plan) {
    this.#index = index
    this.#ranges = ranges
    this.#plan = plan
  }

  /** Name of the dequantized form of a tensor; the pair that makes it is added to `nodes` the first time. */
  dequantized(tensor: string, nodes: NodeProto[]): string {
    const known = this.#dequantized.get(tensor)
    if (known !== undefined) return known
    const { scale, zeroPoint } = this.#parametersOf(tensor)
    const codes = this.#codes(tensor, nodes)
    const result = `${tensor}::dq`
    nodes.push(makeNode('DequantizeLinear', [codes, scale, zeroPoint], [result]))
    this.#dequantized.set(tensor, result)
    return result
  }

  /** Name of the codes of a tensor, which rescaled tensors share. */
  #codes(tensor: string, nodes: NodeProto[]): string {
    const source = this.#plan.rescaled.get(tensor)
    if (source !== undefined) return this.#codes(source.input, nodes)
    const codes = `${tensor}::q`
    if (this.#quantized.has(codes)) return codes
    const { scale, zeroPoint } = this.#parametersOf(tensor)
    nodes.push(makeNode('QuantizeLinear', [this.#writtenAs(tensor), scale, zeroPoint], [codes]))
    this.#quantized.add(codes)
    return codes
  }

  /** int8 weights with one scale a channel, and the bias as int32 on the scale of the products. */
  quantizeWeights(node: NodeProto, limit: number, nodes: NodeProto[]): void {
    const [input = '', weight = '', bias = ''] = node.input
    const source = this.#index.constant(weight)
    if (source === undefined) throw new Error(`node "${node.name}": its weights "${weight}" are not constant`)
    const axis = channelAxis(node, source.dims.length)
    const values = source.data as Float32Array
    const inputScale = node.opType === 'MatMul' ? 1 : this.#parametersOf(input.replace(/::dq$/, '')).params.scale
    const biasValues = bias === '' ? undefined : (this.#index.constant(bias)?.data as Float32Array)
    const { codes, scales } = quantizeChannels(values, {
      dims: source.dims,
      axis,
      limit,
      ...(biasValues === undefined ? {} : { leastScales: leastScales(biasValues, inputScale) }),
    })
    const name = `${node.output[0]}::weight`
    this.initializers.push(tensorProto(`${name}.q`, 'int8', source.dims, codes), tensorProto(`${name}.scale`, 'float32', [scales.length], scales))
    this.initializers.push(tensorProto(`${name}.zero`, 'int8', [scales.length], new Int8Array(scales.length)))
    nodes.push(makeNode('DequantizeLinear', [`${name}.q`, `${name}.scale`, `${name}.zero`], [`${name}.dq`], { attributes: { axis } }))
    node.input[1] = `${name}.dq`
    if (biasValues !== undefined)
      this.#quantizeBias(
        node,
        biasValues,
        Float32Array.from(scales, (scale) => Math.fround(scale * inputScale)),
        nodes,
      )
  }

  #quantizeBias(node: NodeProto, values: Float32Array, scales: Float32Array<ArrayBuffer>, nodes: NodeProto[]): void {
    const name = `${node.output[0]}::bias`
    const codes = Int32Array.from(values, (value, channel) => roundHalfEven(value / (scales[channel] as number)))
    this.initializers.push(tensorProto(`${name}.q`, 'int32', [values.length], codes), tensorProto(`${name}.scale`, 'float32', [scales.length], scales))
    this.initializers.push(tensorProto(`${name}.zero`, 'int32', [scales.length], new Int32Array(scales.length)))
    nodes.push(makeNode('DequantizeLinear', [`${name}.q`, `${name}.scale`, `${name}.zero`], [`${name}.dq`], { attributes: { axis: 0 } }))
    node.input[2] = `${name}.dq`
  }

  /** An absorbed clamp is not there any more: its output is quantized straight from its producer's. */
  #writtenAs(tensor: string): string {
    const producer = this.#index.producer(tensor)
    return (producer && this.#plan.absorbed.get(producer)) ?? tensor
  }

  #parametersOf(tensor: string): { params: AffineParams; scale: string; zeroPoint: string } {
    const owner = this.#plan.parametersOf.get(tensor) ?? tensor
    const known = this.#parameters.get(owner)
    if (known !== undefined) return known
    const params = this.#computeParameters(owner)
    const made = { params, scale: `${owner}::scale`, zeroPoint: `${owner}::zero` }
    this.initializers.push(tensorProto(made.scale, 'float32', [], [params.scale]), tensorProto(made.zeroPoint, 'uint8', [], [params.zeroPoint]))
    this.#parameters.set(owner, made)
    return made
  }

  #computeParameters(tensor: string): AffineParams {
    const source = this.#plan.rescaled.get(tensor)
    if (source === undefined) return uint8Params(this.#rangeOf(tensor))
    const { scale, zeroPoint } = this.#parametersOf(source.input).params
    return { scale: Math.fround(scale * source.factor), zeroPoint }
  }

  #rangeOf(tensor: string): Range {
    const constant = this.#index.constant(tensor)
    if (constant === undefined) {
      const range = this.#ranges.get(tensor)
      if (range === undefined) throw new Error(`tensor "${tensor}" was not calibrated`)
      return range
    }
    const values = constant.data as Float32Array
    return { min: values.reduce((least, value) => Math.min(least, value), Infinity), max: values.reduce((most, value) => Math.max(most, value), -Infinity) }
  }
}

/** The axis of output channels: 0 for Conv and transposed Gemm, else the last. */
function channelAxis(node: NodeProto, rank: number): number {
  if (node.opType === 'Conv' || (node.opType === 'Gemm' && intAttribute(node, 'transB', 0) !== 0)) return 0
  return rank - 1
}

/** Scales of weights below which the bias would not fit into int32, with room for the sum. */
function leastScales(bias: Float32Array, inputScale: number): Float32Array {
  return Float32Array.from(bias, (value) => Math.abs(value) / (inputScale * 2 ** 30))
}
