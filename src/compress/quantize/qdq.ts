// Writes a plan into a graph as QuantizeLinear/DequantizeLinear pairs and int8 weights. The runtime fuses
// the pairs into int8 kernels; any other runtime computes the same numbers in float.
import { createHash } from 'node:crypto'
import { floatAttribute, intAttribute } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto, TensorProto } from '../../onnx/proto.js'
import {
  quantizeChannels,
  rescaledParams,
  roundHalfEven,
  uint8Params,
  uint8ParamsWithZero,
  type AffineParams,
  type ChannelWeights,
  type Range,
} from './affine.js'
import { dataInputs, hasFixedParameters, rootedAt, type Plan } from './plan.js'

export interface QdqOptions {
  plan: Plan
  /** Of every tensor that parameters are taken of. */
  ranges: ReadonlyMap<string, Range>
  /** Largest weight code: 127, or 63 where u8×s8 products saturate. */
  limit: number
  /** Makes a name that the model does not have. */
  uniqueName: (base: string) => string
}

/** Of every tensor with a shifted reading: the value where that reading is zero. */
function shiftedZeros({ rescaled }: Pick<Plan, 'rescaled'>): Map<string, number> {
  const shifts = [...rescaled].filter(([, { shift }]) => shift !== 0).map(([tensor]) => rootedAt(tensor, rescaled))
  return new Map(shifts.map(({ input, scale, shift }) => [input, -shift / scale]))
}

/** Rewrites `graph` in place. */
export function insertQdq(graph: GraphProto, options: QdqOptions): void {
  const { plan } = options
  const index = new GraphIndex(graph)
  const writer = new Writer(index, options)
  const nodes: NodeProto[] = []
  for (const node of graph.node) {
    if (plan.absorbed.has(node) || plan.free.has(node)) continue
    const isQuantized = plan.quantized.has(node)
    const before: NodeProto[] = []
    const data = new Set(isQuantized ? dataInputs(node, index) : [])
    const [input = ''] = node.input
    node.input = node.input.map((name) => (data.has(name) || plan.produced.has(name) ? writer.dequantized(name, before) : name))
    if (isQuantized && (node.opType === 'Conv' || node.opType === 'Gemm' || node.opType === 'MatMul')) writer.quantizeWeights(node, input, before)
    const written = isQuantized && node.opType === 'HardSigmoid' ? writer.saturating(node, before) : node
    nodes.push(...before, written)
    if (!isQuantized && isRequantized(node, input, { index, plan })) nodes.push(guard(node, options.uniqueName))
  }
  graph.node = nodes
  graph.initializer.push(...writer.initializers)
}

/**
 * True for a float node whose weights the runtime would quantize by itself, a tensor at a time, because
 * it stands between a DequantizeLinear and a QuantizeLinear (onnxruntime's WeightBiasQuantization).
 */
function isRequantized(node: NodeProto, input: string, { index, plan }: { index: GraphIndex; plan: Plan }): boolean {
  if (!/^(Conv|ConvTranspose|Gemm)$/.test(node.opType) || !plan.produced.has(input) || index.constantProto(node.input[1] ?? '') === undefined) return false
  const [output = ''] = node.output
  const readers = [...index.consumers(output)]
  for (const reader of index.consumers(output)) if (/^(Relu|Clip)$/.test(reader.opType)) readers.push(...index.consumers(reader.output[0] ?? ''))
  return readers.some((reader) => plan.quantized.has(reader))
}

/** A node that changes nothing and stands in the way of that; the runtime fuses it into the one before. */
function guard(node: NodeProto, uniqueName: QdqOptions['uniqueName']): NodeProto {
  const [output = ''] = node.output
  node.output[0] = uniqueName(`${output}::float`)
  return makeNode('LeakyRelu', [node.output[0]], [output], { name: uniqueName(`${output}::guard`), attributes: { alpha: { float: 1 } } })
}

class Writer {
  readonly initializers: TensorProto[] = []
  readonly #index: GraphIndex
  readonly #limit: number
  readonly #unique: (base: string) => string
  readonly #ranges: ReadonlyMap<string, Range>
  readonly #plan: Plan
  /** Values at which a shifted reading of a tensor is zero. */
  readonly #zeros: ReadonlyMap<string, number>
  /** Tensor → name of its dequantized form. */
  readonly #dequantized = new Map<string, string>()
  /** Tensor → name of its codes. */
  readonly #quantized = new Map<string, string>()
  readonly #weights = new Map<string, readonly string[]>()
  /** Outputs of HardSigmoid: the parameters their codes are written with. */
  readonly #saturated = new Map<string, { scale: string; zeroPoint: string }>()
  readonly #parameters = new Map<string, { params: AffineParams; scale: string; zeroPoint: string }>()

  constructor(index: GraphIndex, { ranges, plan, limit, uniqueName }: QdqOptions) {
    this.#index = index
    this.#limit = limit
    this.#unique = uniqueName
    this.#ranges = ranges
    this.#plan = plan
    this.#zeros = shiftedZeros(plan)
  }

  /** Name of the dequantized form of a tensor; the pair that makes it is added to `nodes` the first time. */
  dequantized(tensor: string, nodes: NodeProto[]): string {
    const known = this.#dequantized.get(tensor)
    if (known !== undefined) return known
    const { scale, zeroPoint } = this.#parametersOf(tensor)
    const codes = this.#codes(tensor, nodes)
    const result = this.#unique(`${tensor}::dq`)
    nodes.push(makeNode('DequantizeLinear', [codes, scale, zeroPoint], [result]))
    this.#dequantized.set(tensor, result)
    return result
  }

  /**
   * clip(αx + β, 0, 1) as x + β ÷ α, whose QuantizeLinear saturates at 0 and 1 ÷ α: read on a scale α times as
   * large, the codes are the result.
   */
  saturating(node: NodeProto, nodes: NodeProto[]): NodeProto {
    const [input = '', output = ''] = [node.input[0], node.output[0]]
    const [alpha, beta] = [floatAttribute(node, 'alpha', 0.2), floatAttribute(node, 'beta', 0.5)]
    const [scale, zero] = [this.#unique(`${output}::shifted.scale`), this.#unique(`${output}::shifted.zero`)]
    const [codes, codeScale, shift] = [this.#unique(`${output}::shift.q`), this.#unique(`${output}::shift.scale`), this.#unique(`${output}::shift.dq`)]
    this.initializers.push(
      tensorProto(scale, 'float32', [], [1 / (255 * alpha)]),
      tensorProto(zero, 'uint8', [], [0]),
      tensorProto(codes, 'uint8', [], [255]),
      tensorProto(codeScale, 'float32', [], [beta / alpha / 255]),
    )
    this.#saturated.set(output, { scale, zeroPoint: zero })
    nodes.push(makeNode('DequantizeLinear', [codes, codeScale, zero], [shift]))
    return makeNode('Add', [input, shift], [output], { name: node.name })
  }

  /** Name of the codes of a tensor, which rescaled tensors share. */
  #codes(tensor: string, nodes: NodeProto[]): string {
    const source = this.#plan.rescaled.get(tensor)
    if (source !== undefined) return this.#codes(source.input, nodes)
    const known = this.#quantized.get(tensor)
    if (known !== undefined) return known
    const codes = this.#unique(`${tensor}::q`)
    const { scale, zeroPoint } = this.#saturated.get(tensor) ?? this.#parametersOf(tensor)
    nodes.push(makeNode('QuantizeLinear', [this.#writtenAs(tensor), scale, zeroPoint], [codes]))
    this.#quantized.set(tensor, codes)
    return codes
  }

  /** int8 weights with one scale a channel, and the bias as int32 on the scale of the products with `activation`. */
  quantizeWeights(node: NodeProto, activation: string, nodes: NodeProto[]): void {
    const [, weight = '', bias = ''] = node.input
    const source = this.#index.constant(weight)
    if (source === undefined) throw new Error(`node "${node.name}": its weights "${weight}" are not constant`)
    const axis = channelAxis(node, source.dims.length)
    const values = source.data as Float32Array
    const inputScale = node.opType === 'MatMul' ? 1 : this.#parametersOf(activation).params.scale
    const biasValues = bias === '' ? undefined : (this.#index.constant(bias)?.data as Float32Array)
    const { codes, scales } = quantizeChannels(values, {
      dims: source.dims,
      axis,
      limit: this.#limit,
      ...(biasValues === undefined ? {} : { leastScales: leastScales(biasValues, inputScale) }),
    })
    const stored = this.#storedWeights({ weight, axis, dims: source.dims, codes, scales })
    const dequantized = this.#unique(`${node.output[0]}::weight.dq`)
    nodes.push(makeNode('DequantizeLinear', stored, [dequantized], { attributes: { axis } }))
    node.input[1] = dequantized
    if (biasValues !== undefined)
      this.#quantizeBias(
        node,
        biasValues,
        Float32Array.from(scales, (scale) => Math.fround(scale * inputScale)),
        nodes,
      )
  }

  /** Names of codes, scales and zero points of weights; nodes that share weights share their codes, unless a bias asked for other scales. */
  #storedWeights({ weight, axis, dims, codes, scales }: ChannelWeights & { weight: string; axis: number; dims: readonly number[] }): readonly string[] {
    const key = createHash('sha256').update(`${weight} ${axis} `).update(scales).digest('hex')
    const known = this.#weights.get(key)
    if (known !== undefined) return known
    const names = this.#storedNames(`${weight}::weight`)
    this.#weights.set(key, names)
    this.initializers.push(tensorProto(names[0], 'int8', dims, codes), tensorProto(names[1], 'float32', [scales.length], scales))
    this.initializers.push(tensorProto(names[2], 'int8', [scales.length], new Int8Array(scales.length)))
    return names
  }

  #quantizeBias(node: NodeProto, values: Float32Array, scales: Float32Array<ArrayBuffer>, nodes: NodeProto[]): void {
    const [codeName, scale, zero] = this.#storedNames(`${node.output[0]}::bias`)
    const dequantized = this.#unique(`${node.output[0]}::bias.dq`)
    const codes = Int32Array.from(values, (value, channel) => roundHalfEven(value / (scales[channel] as number)))
    this.initializers.push(tensorProto(codeName, 'int32', [values.length], codes), tensorProto(scale, 'float32', [scales.length], scales))
    this.initializers.push(tensorProto(zero, 'int32', [scales.length], new Int32Array(scales.length)))
    nodes.push(makeNode('DequantizeLinear', [codeName, scale, zero], [dequantized], { attributes: { axis: 0 } }))
    node.input[2] = dequantized
  }

  #storedNames(base: string): [codes: string, scale: string, zeroPoint: string] {
    return [this.#unique(`${base}.q`), this.#unique(`${base}.scale`), this.#unique(`${base}.zero`)]
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
    const made = { params, scale: this.#unique(`${owner}::scale`), zeroPoint: this.#unique(`${owner}::zero`) }
    this.initializers.push(tensorProto(made.scale, 'float32', [], [params.scale]), tensorProto(made.zeroPoint, 'uint8', [], [params.zeroPoint]))
    this.#parameters.set(owner, made)
    return made
  }

  #computeParameters(tensor: string): AffineParams {
    const source = this.#plan.rescaled.get(tensor)
    if (source !== undefined) {
      const root = rootedAt(tensor, this.#plan.rescaled)
      return rescaledParams(this.#parametersOf(root.input).params, root)
    }
    const zero = this.#zeros.get(tensor)
    const range = this.#rangeOf(tensor)
    return (zero === undefined ? undefined : uint8ParamsWithZero(range, zero)) ?? uint8Params(range)
  }

  #rangeOf(tensor: string): Range {
    if (hasFixedParameters(tensor, this.#index)) return { min: 0, max: 1 }
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
export function leastScales(bias: Float32Array, inputScale: number): Float32Array {
  return Float32Array.from(bias, (value) => Math.abs(value) / (inputScale * 2 ** 30))
}
