// Takes out of the biases of int8 nodes by how much the rounding of their weights shifts each channel of their outputs
// on average: E[ΔW · x], after Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
// (2019, https://arxiv.org/abs/1906.04721), section 4.2, with x measured on samples. Which nodes are int8 is plan.ts's
// business, what their weights became qdq.ts's.
import { FlyweightError } from '../../errors.js'
import { intAttribute } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto, tensorValues, valueInfo } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import { tensorNames } from '../../onnx/names.js'
import { shallowCopy, type NodeProto, type TensorProto } from '../../onnx/proto.js'
import { CALIBRATION_BATCH } from '../calibration/min-max.js'
import { modelUpTo } from '../calibration/model-up-to.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import { batchesOf, evenlySpaced } from '../samples.js'
import { floatConstant } from './absorption.js'
import { clamp, roundHalfEven } from './affine.js'

/** Samples looked at: means of channels settle soon. */
const MOST_ROWS = 64
const LARGEST_CODE = 2 ** 31 - 1

/** A node whose bias can be changed. */
interface Target {
  /** As it was before quantization. */
  node: NodeProto
  weights: { dims: readonly number[]; axis: number }
  /** Quantized weights less those of `node`, element by element. */
  errorAt(i: number): number
  channels: number
  /** Takes `shift`, one a channel, out of the output. */
  subtract(shift: Float64Array): unknown
}

/** Gives Conv and Gemm nodes without a bias one of zeros, which int8 kernels add at no cost. */
export function addZeroBiases(model: Model, nodes: ReadonlySet<NodeProto>): void {
  const index = new GraphIndex(model.graph)
  const unique = tensorNames(model)
  for (const node of nodes) {
    if ((node.opType !== 'Conv' && node.opType !== 'Gemm') || (node.input[2] ?? '') !== '') continue
    const dims = index.constantProto(node.input[1] ?? '')?.dims ?? []
    const channels = Number(dims[node.opType === 'Conv' || intAttribute(node, 'transB', 0) !== 0 ? 0 : 1])
    const name = unique(`${node.output[0]}::bias`)
    model.graph.initializer.push(tensorProto(name, 'float32', [channels], new Float32Array(channels)))
    node.input[2] = name
  }
}

/**
 * Corrects the biases of the quantized nodes of `model` in place: int32 codes, a float bias, or the constant that
 * is added to a MatMul's output. `reference` is the model before quantization, tensors under the same names. Returns how many nodes
 * were corrected.
 * @throws FlyweightError `invalid_model` when an output is not finite on a sample.
 */
export async function correctBiases(model: Model, reference: Model, quantized: ReadonlySet<NodeProto>, context: PassContext): Promise<number> {
  const indices = { index: new GraphIndex(model.graph), referenceIndex: new GraphIndex(reference.graph) }
  const targets = [...quantized].flatMap((node) => targetOf(node, { model, ...indices }) ?? [])
  const shifts = await meanShifts(reference, targets, context)
  for (const [i, { subtract }] of targets.entries()) subtract(shifts[i]!)
  return targets.length
}

interface Sides {
  model: Model
  index: GraphIndex
  referenceIndex: GraphIndex
}

function targetOf(node: NodeProto, { model, index, referenceIndex }: Sides): Target | undefined {
  const [output = ''] = node.output
  const before = referenceIndex.producer(output)
  const weights = floatConstant(before?.input[1], referenceIndex)
  if (!/^(Conv|Gemm|MatMul)$/.test(node.opType) || before === undefined || weights === undefined) return undefined
  const read = index.producer(node.input[1] ?? '')
  const [codes, scales] = (read?.input ?? []).slice(0, 2).map((name) => index.constant(name)?.data)
  const [biasCodes, biasScales] = (index.producer(node.input[2] ?? '')?.input ?? []).slice(0, 2).map((name) => index.initializer(name))
  if (read === undefined || codes === undefined || scales === undefined) return undefined
  const axis = intAttribute(read, 'axis', 1)
  const inner = weights.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const errorAt = (i: number) => Number(codes[i]) * Number(scales[Math.floor(i / inner) % scales.length]) - weights.values[i]!
  const channels = scales.length
  const subtract =
    node.opType === 'MatMul'
      ? inConstantAfter(output, channels, model, index)
      : biasCodes && biasScales
        ? (shift: Float64Array) => subtractCodes(biasCodes, biasScales, shift)
        : inFloatBias(node, channels, model, index)
  return subtract && { node: before, weights: { dims: weights.dims, axis }, errorAt, channels, subtract }
}

function subtractCodes(codes: TensorProto, scale: TensorProto, shift: Float64Array): void {
  const [values, scales] = [tensorValues(codes).data as Int32Array, tensorValues(scale).data as Float32Array]
  const corrected = Int32Array.from(values, (code, channel) => clamp(code - roundHalfEven(shift[channel]! / scales[channel]!), -LARGEST_CODE, LARGEST_CODE))
  codes.rawData = new Uint8Array(corrected.buffer)
}

/** A bias that stayed float, which other nodes may have too. */
function inFloatBias(node: NodeProto, channels: number, model: Model, index: GraphIndex): Target['subtract'] | undefined {
  const bias = floatConstant(node.input[2], index)
  return bias?.values.length === channels ? (shift) => (node.input[2] = storeShifted(node.input[2]!, bias, shift, model)) : undefined
}

function storeShifted(name: string, { values, dims }: NonNullable<ReturnType<typeof floatConstant>>, shift: Float64Array, model: Model): string {
  const corrected = tensorNames(model)(`${name}::corrected`)
  const data = Float32Array.from(values, (value, channel) => value - shift[channel]!)
  model.graph.initializer.push(tensorProto(corrected, 'float32', dims, data))
  return corrected
}

/** What the one reader of a MatMul's output adds serves as its bias. */
function inConstantAfter(output: string, channels: number, model: Model, index: GraphIndex): Target['subtract'] | undefined {
  const [add, ...others] = index.consumers(output)
  if (add?.opType !== 'Add' || others.length > 0 || index.isOutput(output)) return undefined
  const position = add.input[0] === output ? 1 : 0
  const constant = floatConstant(add.input[position], index)
  if (constant?.values.length !== channels || constant.dims.at(-1) !== channels) return undefined
  return (shift) => (add.input[position] = storeShifted(add.input[position]!, constant, shift, model))
}

/**
 * Mean over rows and positions of what each target computes with the errors of its weights in place of them. All is
 * linear, so inputs are averaged first, and inside the graph: few numbers a batch leave the runtime. Products are computed
 * here, so that the errors of large weights are nowhere all in memory; convolutions, whose borders differ, by the runtime.
 */
async function meanShifts(
  reference: Model,
  targets: readonly Target[],
  { samples, threads, workDir, maxBatch, signal, onProgress }: PassContext,
): Promise<Float64Array[]> {
  if (targets.length === 0) return []
  const unique = tensorNames(reference)
  const observed = targets.map((target) => ({ ...target, mean: unique(`${target.node.output[0]}::shift`) }))
  const sums = targets.map((target) => new Float64Array(target.node.opType === 'Conv' ? target.channels : productWidth(target)))
  const outputs = observed.map(({ mean }, i) => valueInfo(mean, 'float32', [sums[i]!.length]))
  const added = {
    // The last first, as observedModel has them: each input is freed soon.
    nodes: observed.toReversed().flatMap(meanNodes),
    initializers: observed.filter(({ node }) => node.opType === 'Conv').map(errorTensor),
  }
  const few = evenlySpaced(samples, MOST_ROWS)
  const session = await openModel(modelUpTo(reference, outputs, added), { threads, workDir })
  try {
    for (const { from, count, feeds } of batchesOf(few, Math.min(CALIBRATION_BATCH, maxBatch))) {
      signal?.throwIfAborted()
      const found = await session.run(feeds)
      for (const [i, { mean, node }] of observed.entries()) {
        const [sum, means] = [sums[i]!, found[mean]!.data as Float32Array]
        means.forEach((value, place) => (sum[place]! += (value * count) / few.rows))
        if (!sum.every(Number.isFinite)) throw new FlyweightError('invalid_model', `what node "${node.name}" reads is not finite on samples`)
      }
      onProgress?.((from + count) / few.rows, `correcting biases ${from + count}/${few.rows}`)
    }
  } finally {
    await session.release()
  }
  return targets.map((target, i) => (target.node.opType === 'Conv' ? sums[i]! : productShift(target, sums[i]!)))
}

/** Elements of a row that a product reads. */
function productWidth({ weights: { dims, axis } }: Target): number {
  return dims[1 - axis]!
}

/** ΔW times the mean row. */
function productShift({ weights: { axis }, errorAt, channels }: Target, mean: Float64Array): Float64Array {
  const shift = new Float64Array(channels)
  const [alongChannels, alongRow] = axis === 0 ? [mean.length, 1] : [1, channels]
  for (let channel = 0; channel < channels; channel++) {
    for (let k = 0; k < mean.length; k++) shift[channel]! += errorAt(channel * alongChannels + k * alongRow) * mean[k]!
  }
  return shift
}

function errorTensor({ node, weights: { dims }, errorAt }: Target): TensorProto {
  const values = Float32Array.from({ length: dims.reduce((product, dim) => product * dim, 1) }, (_, i) => errorAt(i))
  return tensorProto(`${node.output[0]}::weight.error`, 'float32', dims, values)
}

/** Conv(mean of x over rows, ΔW), averaged over positions; of products, the mean of all rows of x. */
function meanNodes(target: Target & { mean: string }): NodeProto[] {
  const { node, weights, mean } = target
  const name = (part: string) => `${mean}.${part}`
  const constant = (part: string, values: readonly number[]) =>
    makeNode('Constant', [], [name(part)], { attributes: { value: tensorProto('', 'int64', [values.length], values) } })
  const reduce = (from: string, axes: string, to: string, keepdims: 0 | 1) => makeNode('ReduceMean', [from, name(axes)], [to], { attributes: { keepdims } })
  const [input = '', output = ''] = [node.input[0], node.output[0]]
  if (node.opType !== 'Conv') {
    const rows = [constant('shape', [-1, productWidth(target)]), makeNode('Reshape', [input, name('shape')], [name('flat')])]
    return [...rows, constant('rows', [0]), reduce(name('flat'), 'rows', mean, 0)]
  }
  const applied = shallowCopy(node)
  applied.name = name('applied')
  applied.input = [name('input'), `${output}::weight.error`]
  applied.output = [name('output')]
  const positions = weights.dims.slice(2).map((_, axis) => axis + 2)
  return [constant('rows', [0]), reduce(input, 'rows', name('input'), 1), applied, constant('all', [0, ...positions]), reduce(name('output'), 'all', mean, 0)]
}
