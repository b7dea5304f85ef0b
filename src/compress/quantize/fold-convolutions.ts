// The rewrite that moves what follows a Conv into its weights and bias: Mul, Add, Sub or Div by a constant
// number, or by one a channel. Exact but for rounding. (The runtime folds BatchNormalization itself, and some of these.)
import { tensorProto, tensorValues } from '../../onnx/builder.js'
import type { GraphIndex } from '../../onnx/graph.js'
import { shallowCopy, type NodeProto } from '../../onnx/proto.js'
import { rule } from '../../onnx/rewrite.js'
import { dtypes } from '../../tensor/tensor.js'

interface ChannelAffine {
  conv: NodeProto
  follower: NodeProto
  /** One a channel. */
  scale: Float64Array
  shift: Float64Array
}

interface Floats {
  values: Float32Array
  dims: readonly number[]
}

export const foldConvolutions = rule<ChannelAffine>({
  name: 'folded into Conv',
  opType: ['Mul', 'Add', 'Sub', 'Div'],
  match: (follower, index) => {
    const source = follower.input.find((name) => index.producer(name)?.opType === 'Conv')
    const conv = source === undefined ? undefined : index.producer(source)
    if (source === undefined || conv === undefined || index.isOutput(source) || index.consumers(source).length !== 1) return undefined
    const weights = floats(conv.input[1], index)
    const bias = conv.input[2] ?? ''
    if (weights === undefined || (bias !== '' && floats(bias, index) === undefined)) return undefined
    const factors = channelFactors(follower, source, { index, channels: weights.dims[0] ?? 0, rank: weights.dims.length })
    return factors && { conv, follower, ...factors }
  },
  apply: ({ conv, follower, scale, shift }, { index, uniqueName }) => {
    const { values, dims } = floats(conv.input[1], index)!
    const bias = floats(conv.input[2], index)?.values
    const filter = values.length / scale.length
    const scaled = Float32Array.from(values, (value, i) => value * scale[Math.floor(i / filter)]!)
    const shifted = Float32Array.from(scale, (factor, channel) => (bias?.[channel] ?? 0) * factor + shift[channel]!)
    const [weightName, biasName] = [uniqueName(`${follower.output[0]}::weight`), uniqueName(`${follower.output[0]}::bias`)]
    const folded = shallowCopy(conv)
    folded.input = [conv.input[0]!, weightName, biasName]
    folded.output = [follower.output[0]!]
    return {
      nodes: [folded],
      initializers: [tensorProto(weightName, 'float32', dims, scaled), tensorProto(biasName, 'float32', [scale.length], shifted)],
      remove: [conv, follower],
    }
  },
})

function floats(name: string | undefined, index: GraphIndex): Floats | undefined {
  const proto = name === undefined || name === '' ? undefined : index.constantProto(name)
  if (proto?.dataType !== dtypes.float32.onnx) return undefined
  const { data, dims } = tensorValues(proto)
  return { values: data as Float32Array, dims }
}

function channelFactors(
  node: NodeProto,
  source: string,
  { index, channels, rank }: { index: GraphIndex; channels: number; rank: number },
): Pick<ChannelAffine, 'scale' | 'shift'> | undefined {
  const position = node.input.indexOf(source)
  const constant = floats(node.input[1 - position], index)
  if (constant === undefined || !isPerChannel(constant.dims, channels, rank)) return undefined
  const each = (change: (value: number) => number) =>
    Float64Array.from({ length: channels }, (_, channel) => change(constant.values[channel % constant.values.length]!))
  switch (node.opType) {
    case 'Mul':
      return { scale: each((value) => value), shift: each(() => 0) }
    case 'Add':
      return { scale: each(() => 1), shift: each((value) => value) }
    case 'Sub':
      return position === 0 ? { scale: each(() => 1), shift: each((value) => -value) } : { scale: each(() => -1), shift: each((value) => value) }
    default:
      return position === 0 && constant.values.every((value) => value !== 0) ? { scale: each((value) => 1 / value), shift: each(() => 0) } : undefined
  }
}

/** One element, or one a channel aligned with axis 1 of a result of `rank` dimensions. */
function isPerChannel(dims: readonly number[], channels: number, rank: number): boolean {
  if (dims.length > rank) return false
  if (dims.every((dim) => dim === 1)) return true
  const padded = [...new Array<number>(rank - dims.length).fill(1), ...dims]
  return padded.every((dim, axis) => dim === (axis === 1 ? channels : 1))
}
