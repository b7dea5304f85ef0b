// Gradients of normalisations. All but BatchNormalization for inference are y = γ·x̂ + β with x̂ = (x − mean)·r and
// r = 1/√(variance + ε) over some axes, so that dx = r·(g − mean g − x̂·mean(g·x̂)) with g = γ·dy. Ioffe and Szegedy,
// "Batch Normalization" (2015), section 3.
import { floatAttribute, intAttribute } from '../../onnx/attributes.js'
import { elementCount } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { emitSumTo } from './broadcast.js'

interface Normal {
  /** x̂, of the shape of what is normalised. */
  normalized: string
  /** r, with the axes that statistics are over of size 1. */
  inverse: string
  axes: readonly number[]
}

/** Statistics of the batch in training mode, else constant ones. */
export const batchNormalization: Gradient = (context) => {
  const { node, emit, upstream } = context
  const [x, scale, , mean, variance] = node.input as [string, string, string, string, string]
  if (context.wants(3) || context.wants(4)) context.refuse('its statistics would be trained; they can only be constants')
  if (upstream[1] !== undefined || upstream[2] !== undefined) context.refuse('the loss depends on its running statistics')
  if (intAttribute(node, 'training_mode', 0) === 1) return throughBatch(context)
  const inverse = emitInverse(context, perChannel(context, variance))
  const dy = upstream[0] as string
  const normalized = () => emit.op('Mul', [emit.op('Sub', [x, perChannel(context, mean)]), inverse])
  return [
    context.wants(0) ? emit.op('Mul', [dy, emit.op('Mul', [perChannel(context, scale), inverse])]) : undefined,
    context.wants(1) ? channelSum(context, emit.op('Mul', [dy, normalized()])) : undefined,
    context.wants(2) ? channelSum(context, dy) : undefined,
  ]
}

/**
 * With x̂ normalized by the batch: dβ = Σ dy, dγ = Σ dy·x̂, dx = γσ⁻¹(dy − dβ/n − x̂·dγ/n), where n elements are summed
 * over. What has one number for each channel is left to BatchNormalization itself, which goes once through memory.
 */
function throughBatch(context: GradientContext): string[] {
  const { node, emit, dims, scalar, dtype } = context
  const [x, scale] = node.input as [string, string]
  const dy = context.upstream[0] as string
  const channels = dims(x)[1] as number
  const type = dtype(x) as 'float32'
  const filled = (value: number) => emit.tensor(type, [channels], Array<number>(channels).fill(value))
  const [zeros, ones] = [filled(0), filled(1)]
  // Without momentum the running statistics become those of the batch. The runtime writes them over the old ones, which
  // therefore have to be nobody else's: values of this batch, whose size does not matter.
  const first = emit.op('Slice', [x, emit.ints(dims(x).map(() => 0)), emit.ints(dims(x).map((size, axis) => (axis === 1 ? size : 1)))])
  const old = emit.op('Reshape', [first, emit.ints([channels])])
  const attributes = { training_mode: 1, momentum: { float: 0 }, epsilon: { float: floatAttribute(node, 'epsilon', 1e-5) } }
  const inputs = [x, ones, zeros, old, emit.op('Abs', [old])]
  const [normalized, , variance] = emit.ops('BatchNormalization', inputs, 3, { attributes }) as [string, string, string]
  const affineOf = (tensor: string, factor: string, shift: string) =>
    emit.op('BatchNormalization', [tensor, factor, shift, zeros, ones], { attributes: { epsilon: { float: 0 } } })
  const [dBias, dScale] = [channelSum(context, dy), channelSum(context, emit.op('Mul', [dy, normalized]))]
  const factor = emit.op('Mul', [scale, emitInverse(context, variance)])
  const share = emit.op('Mul', [factor, scalar(-channels / elementCount(dims(x)))])
  const along = affineOf(normalized, emit.op('Mul', [share, dScale]), emit.op('Mul', [share, dBias]))
  return [emit.op('Add', [affineOf(dy, factor, zeros), along]), dScale, dBias]
}

export const instanceNormalization: Gradient = (context) => {
  const { node, dims } = context
  const [x] = node.input as [string]
  return byChannel(
    context,
    emitNormal(
      context,
      x,
      dims(x)
        .slice(2)
        .map((_, axis) => axis + 2),
    ),
  )
}

/** Statistics over the channels of a group: of x as [N, groups, all else]. */
export const groupNormalization: Gradient = (context) => {
  const { node, emit, dims } = context
  const [x, scale] = node.input as [string, string]
  const [samples, channels] = dims(x) as [number, number]
  if (dims(scale)[0] !== channels) context.refuse(`its scale has ${dims(scale)[0]} elements, expected one for each of ${channels} channels`)
  const grouped = emit.ints([samples, intAttribute(node, 'num_groups', 1), -1])
  const whole = emit.ints(dims(x))
  const normal = emitNormal(context, emit.op('Reshape', [x, grouped]), [2])
  const scaled = () => emit.op('Reshape', [emit.op('Mul', [context.upstream[0] as string, perChannel(context, scale)]), grouped])
  return [
    context.wants(0) ? emit.op('Reshape', [throughNormal(context, scaled(), normal), whole]) : undefined,
    ...affine(
      context,
      () => emit.op('Reshape', [normal.normalized, whole]),
      (gradient) => channelSum(context, gradient),
    ),
  ]
}

/** Statistics over the axes from `axis` on; the optional outputs are those statistics, and have gradients of their own. */
export const layerNormalization: Gradient = (context) => {
  const { node, emit, dims, upstream } = context
  const [x, scale] = node.input as [string, string]
  const dimsX = dims(x)
  const first = intAttribute(node, 'axis', -1)
  const axes = dimsX.flatMap((_, axis) => (axis >= (first < 0 ? first + dimsX.length : first) ? [axis] : []))
  const normal = storedNormal(context, axes) ?? emitNormal(context, x, axes)
  const [dy, dMean, dInverse] = upstream
  const parts: string[] = []
  const share = context.scalar(1 / axes.reduce((product, axis) => product * (dimsX[axis] as number), 1))
  if (context.wants(0)) {
    if (dy !== undefined) parts.push(throughNormal(context, emit.op('Mul', [dy, scale]), normal))
    if (dMean !== undefined) parts.push(emit.op('Expand', [emit.op('Mul', [dMean, share]), emit.ints(dimsX)]))
    if (dInverse !== undefined) {
      // r = (variance + ε)^(−1/2): dr = −r³·(x − mean)/n·dx = −r²·x̂/n·dx
      const square = emit.op('Mul', [normal.inverse, normal.inverse])
      parts.push(emit.op('Neg', [emit.op('Mul', [normal.normalized, emit.op('Mul', [emit.op('Mul', [dInverse, square]), share])])]))
    }
  }
  const sumTo = (gradient: string, input: number) => emitSumTo(emit, gradient, dimsX, dims(node.input[input] as string))
  return [parts.length > 1 ? emit.op('Sum', parts) : parts[0], ...(dy === undefined ? [] : affine(context, () => normal.normalized, sumTo))]
}

/** Gradients where scale and bias are by channel and x̂ has the shape of x. */
function byChannel(context: GradientContext, normal: Normal): (string | undefined)[] {
  const { node, emit, upstream } = context
  const scaled = () => emit.op('Mul', [upstream[0] as string, perChannel(context, node.input[1] as string)])
  return [
    context.wants(0) ? throughNormal(context, scaled(), normal) : undefined,
    ...affine(
      context,
      () => normal.normalized,
      (gradient) => channelSum(context, gradient),
    ),
  ]
}

/** dγ = Σ dy·x̂ and dβ = Σ dy, for inputs 1 and 2. */
function affine(context: GradientContext, normalized: () => string, sum: (gradient: string, input: number) => string): (string | undefined)[] {
  const dy = context.upstream[0] as string
  return [context.wants(1) ? sum(context.emit.op('Mul', [dy, normalized()]), 1) : undefined, context.wants(2) ? sum(dy, 2) : undefined]
}

function throughNormal({ emit }: GradientContext, g: string, { normalized, inverse, axes }: Normal): string {
  const mean = (tensor: string) => emit.op('ReduceMean', [tensor, emit.ints(axes)], { attributes: { keepdims: 1 } })
  const along = emit.op('Mul', [normalized, mean(emit.op('Mul', [g, normalized]))])
  return emit.op('Mul', [inverse, emit.op('Sub', [emit.op('Sub', [g, mean(g)]), along])])
}

/** Computes the statistics anew. */
function emitNormal(context: GradientContext, x: string, axes: readonly number[]): Normal {
  const { emit } = context
  const mean = (tensor: string) => emit.op('ReduceMean', [tensor, emit.ints(axes)], { attributes: { keepdims: 1 } })
  const centred = emit.op('Sub', [x, mean(x)])
  const inverse = emitInverse(context, mean(emit.op('Mul', [centred, centred])))
  return { normalized: emit.op('Mul', [centred, inverse]), inverse, axes }
}

/** The statistics that a LayerNormalization gives as outputs; undefined where it does not, or in another type. */
function storedNormal({ node, emit, dtype }: GradientContext, axes: readonly number[]): Normal | undefined {
  const [y, mean, inverse] = node.output
  if (mean === undefined || mean === '' || inverse === undefined || inverse === '' || dtype(mean) !== dtype(y as string)) return undefined
  return { normalized: emit.op('Mul', [emit.op('Sub', [node.input[0] as string, mean]), inverse]), inverse, axes }
}

function emitInverse({ node, emit, scalar }: GradientContext, variance: string): string {
  return emit.op('Reciprocal', [emit.op('Sqrt', [emit.op('Add', [variance, scalar(floatAttribute(node, 'epsilon', 1e-5))])])])
}

/** One number for each channel, made to broadcast with x. */
function perChannel({ node, emit, dims }: GradientContext, tensor: string): string {
  return emit.op('Reshape', [tensor, emit.ints(dims(node.input[0] as string).map((_, axis) => (axis === 1 ? -1 : 1)))])
}

function channelSum({ node, emit, dims }: GradientContext, tensor: string): string {
  return emit.op('ReduceSum', [tensor, emit.ints(axesBut(dims(node.input[0] as string), 1))], { attributes: { keepdims: 0 } })
}

function axesBut(dims: readonly number[], one: number): number[] {
  return dims.flatMap((_, axis) => (axis === one ? [] : [axis]))
}
