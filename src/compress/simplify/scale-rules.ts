// Rewrites that move constant factors into weights which canonical.ts does not reach: of MatMul and Gemm, through
// biases, Reshape and Transpose, and into the Conv or product that follows. Exact but for float32's rounding.
import { attribute, floatAttribute, intAttribute, intsAttribute, stringAttribute } from '../../onnx/attributes.js'
import { tensorProto, tensorValues } from '../../onnx/builder.js'
import type { GraphIndex } from '../../onnx/graph.js'
import { shallowCopy, type NodeProto, type TensorProto } from '../../onnx/proto.js'
import { rule, type Replacement, type RewriteRule } from '../../onnx/rewrite.js'
import { dtypes } from '../../tensor/tensor.js'
import { scalarAffine, type ScalarAffine } from '../quantize/scalar-nodes.js'

interface Floats {
  values: Float32Array<ArrayBuffer>
  dims: readonly number[]
}

interface Behind {
  /** The MatMul or Gemm. */
  product: NodeProto
  /** The Add of a constant between it and the factor. */
  bias: NodeProto | undefined
  /** Reshape and Transpose between, first to last. */
  moves: readonly NodeProto[]
  /** One, or one a column of the product. */
  factors: Float32Array
}

export const scaleRules: readonly RewriteRule[] = [
  rule<Behind>({
    name: 'factor folded into the product before it',
    opType: ['Mul', 'Div'],
    match: (follower, index) => {
      for (const [position, name] of follower.input.entries()) {
        const constant = floats(follower.input[1 - position], index)
        if (constant === undefined || constant.dims.length > 1 || (follower.opType === 'Div' && position === 1)) continue
        if (follower.opType === 'Div' && constant.values.includes(0)) continue
        const found = productBefore(name, index, constant.values.length === 1)
        if (found === undefined) continue
        const factors = follower.opType === 'Div' ? constant.values.map((value) => 1 / value) : constant.values
        if (factors.length === 1 || factors.length === columnsOf(found.product, index)) return { ...found, factors }
      }
      return undefined
    },
    apply: ({ product, bias, moves, factors }, { node: follower, index, uniqueName }) => {
      const initializers: TensorProto[] = []
      const store = (base: string, { values, dims }: Floats): string => {
        const name = uniqueName(`${base}::scaled`)
        initializers.push(tensorProto(name, 'float32', dims, values))
        return name
      }
      const chain = [product, ...(bias ? [bias] : []), ...moves].map((one) => shallowCopy(one))
      const [scaled, ...rest] = chain as [NodeProto, ...NodeProto[]]
      const weight = floats(product.input[1], index)!
      const byRow = isTransposed(product)
      const columns = columnsOf(product, index)
      const inner = weight.values.length / columns
      scaled.input = product.input.slice()
      const column = (i: number) => (byRow ? Math.floor(i / inner) : i % columns)
      scaled.input[1] = store(product.input[1]!, { ...weight, values: weight.values.map((value, i) => value * factors[column(i) % factors.length]!) })
      const summand = floats(product.input[2], index)
      if (summand) scaled.input[2] = store(product.input[2]!, timesColumns(summand, factors))
      if (bias) {
        const added = rest[0]!
        const position = bias.input[0] === product.output[0] ? 1 : 0
        added.input = bias.input.slice()
        added.input[position] = store(bias.input[position]!, timesColumns(floats(bias.input[position], index)!, factors))
      }
      chain.at(-1)!.output = follower.output.slice()
      return { nodes: chain, initializers, remove: [product, ...(bias ? [bias] : []), ...moves, follower] }
    },
  }),
  rule<{ scaling: NodeProto; affine: ScalarAffine }>({
    name: 'factor folded into what follows it',
    opType: ['Conv', 'MatMul', 'Gemm'],
    match: (follower, index) => {
      const scaling = soleProducer(follower.input[0]!, index)
      const affine = scaling && scalarAffine(scaling, index)
      if (affine === undefined || floats(follower.input[1], index) === undefined) return undefined
      const bias = follower.input[2] ?? ''
      const absorbsShift = follower.opType === 'Conv' && isUnpadded(follower) && (bias === '' || floats(bias, index) !== undefined)
      return affine.shift === 0 || absorbsShift ? { scaling: scaling!, affine } : undefined
    },
    apply: ({ scaling, affine: { input, scale, shift } }, { node: follower, index, uniqueName }): Replacement => {
      const { values, dims } = floats(follower.input[1], index)!
      const name = uniqueName(`${follower.input[1]}::scaled`)
      const initializers = [
        tensorProto(
          name,
          'float32',
          dims,
          values.map((value) => value * scale),
        ),
      ]
      const folded = shallowCopy(follower)
      folded.input = [input, name, ...follower.input.slice(2)]
      if (shift !== 0) {
        const bias = floats(follower.input[2], index)?.values
        const [channels] = dims as [number]
        const filter = values.length / channels
        const shifted = Float32Array.from({ length: channels }, (_, channel) => {
          const sum = values.subarray(channel * filter, (channel + 1) * filter).reduce((total, value) => total + value, 0)
          return (bias?.[channel] ?? 0) + shift * sum
        })
        folded.input[2] = uniqueName(`${follower.output[0]}::bias`)
        initializers.push(tensorProto(folded.input[2], 'float32', [channels], shifted))
      }
      return { nodes: [folded], initializers, remove: [scaling, follower] }
    },
  }),
]

/** The product that a factor on `tensor` can go into; through Reshape and Transpose if it is `single`, the same for all columns. */
function productBefore(tensor: string, index: GraphIndex, single: boolean): Omit<Behind, 'factors'> | undefined {
  const moves: NodeProto[] = []
  let producer = soleProducer(tensor, index)
  while (single && producer !== undefined && /^(Reshape|Transpose|Flatten|Squeeze|Unsqueeze)$/.test(producer.opType)) {
    moves.unshift(producer)
    producer = soleProducer(producer.input[0]!, index)
  }
  let bias: NodeProto | undefined
  if (producer?.opType === 'Add') {
    bias = producer
    const [left, right] = [soleProducer(bias.input[0]!, index), soleProducer(bias.input[1]!, index)]
    producer = left?.opType === 'MatMul' ? left : right
    const summand = floats(bias.input[producer === left ? 1 : 0], index)
    const width = summand?.dims.at(-1)
    if (producer?.opType !== 'MatMul' || summand === undefined || summand.dims.length !== 1 || width !== columnsOf(producer, index)) return undefined
  }
  return producer !== undefined && takesFactors(producer, index) ? { product: producer, bias, moves } : undefined
}

function takesFactors(product: NodeProto, index: GraphIndex): boolean {
  if (product.opType !== 'MatMul' && product.opType !== 'Gemm') return false
  if (floats(product.input[1], index)?.dims.length !== 2) return false
  if (product.opType === 'MatMul') return true
  const summand = product.input[2] ?? ''
  if (summand === '') return true
  const dims = floats(summand, index)?.dims
  return dims !== undefined && floatAttribute(product, 'beta', 1) === 1 && dims.length <= 1 && dims[0] === columnsOf(product, index)
}

function isTransposed(product: NodeProto): boolean {
  return product.opType === 'Gemm' && intAttribute(product, 'transB', 0) === 1
}

function columnsOf(product: NodeProto, index: GraphIndex): number {
  return floats(product.input[1], index)?.dims[isTransposed(product) ? 0 : 1] ?? 0
}

function timesColumns({ values, dims }: Floats, factors: Float32Array): Floats {
  return { dims, values: values.map((value, i) => value * factors[i % factors.length]!) }
}

function isUnpadded(conv: NodeProto): boolean {
  const automatic = stringAttribute(conv, 'auto_pad', 'NOTSET')
  return automatic === 'VALID' || (automatic === 'NOTSET' && (attribute(conv, 'pads') === undefined || intsAttribute(conv, 'pads')!.every((pad) => pad === 0)))
}

/** The node that writes `name`, if `name` has one reader and is no output of the graph. */
function soleProducer(name: string, index: GraphIndex): NodeProto | undefined {
  return index.isOutput(name) || index.consumers(name).length !== 1 ? undefined : index.producer(name)
}

function floats(name: string | undefined, index: GraphIndex): Floats | undefined {
  const proto = name === undefined || name === '' ? undefined : index.constantProto(name)
  if (proto?.dataType !== dtypes.float32.onnx) return undefined
  const { data, dims } = tensorValues(proto)
  return { values: data as Float32Array<ArrayBuffer>, dims }
}
