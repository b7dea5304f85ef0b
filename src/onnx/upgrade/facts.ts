// What can be said of a graph's tensors without running it: rank, element type, length of vectors. Rules
// use it to emit the simplest exact form and fall back to a general one where a fact is missing.
import { tensorValues } from '../builder.js'
import { attribute, intAttribute, intsAttribute } from '../attributes.js'
import type { GraphProto, NodeProto, TensorProto, ValueInfoProto } from '../proto.js'

export interface Fact {
  rank?: number | undefined
  /** ONNX's TensorProto.DataType number. */
  type?: number | undefined
  /** Elements of a rank-1 tensor. */
  length?: number | undefined
}

const FLOAT = 1
const INT64 = 7
const BOOL = 9
const NOTHING: Fact = {}

// Rank and type of every output are the first input's. (Second outputs of another type are set below.)
const LIKE_FIRST = words(`
  Abs Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli BitwiseNot Ceil Celu Clip Conv ConvTranspose Cos Cosh
  CumSum DepthToSpace Dropout Elu Erf Exp Floor Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization HardSigmoid HardSwish
  Hardmax Identity InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MaxPool MeanVarianceNormalization
  Mish Neg Not PRelu Pad Reciprocal Relu Resize ReverseSequence Round Scatter ScatterElements ScatterND Selu Shrink Sigmoid Sign
  Sin Sinh Softmax Softplus Softsign SpaceToDepth Split Sqrt Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Upsample`)
const BROADCAST = words('Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Max Mean Min Mod Mul Or Pow Sub Sum Xor')
const COMPARE = words('Equal Greater GreaterOrEqual Less LessOrEqual')
const REDUCE = words('ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare')
const INT64_SECOND = words('MaxPool TopK')

export class Facts {
  readonly #facts = new Map<string, Fact>()
  readonly #constants = new Map<string, TensorProto>()
  readonly #outer: Facts | undefined

  /** `outer` holds the facts of the graph around a subgraph. */
  constructor(graph: GraphProto, outer?: Facts) {
    this.#outer = outer
    for (const info of graph.input) this.#facts.set(info.name, declared(info))
    for (const tensor of graph.initializer) this.#setConstant(tensor.name, tensor)
    const declarations = new Map([...graph.valueInfo, ...graph.output].map((info) => [info.name, declared(info)]))
    for (const node of graph.node) {
      const inferred = this.#infer(node)
      node.output.forEach((name, position) => {
        if (name === '') return
        const fact = inferred[position] ?? NOTHING
        const { rank, type } = declarations.get(name) ?? NOTHING
        this.#facts.set(name, { ...fact, rank: fact.rank ?? rank, type: fact.type ?? type })
      })
    }
  }

  of(tensor: string | undefined): Fact {
    if (tensor === undefined || tensor === '') return NOTHING
    return this.#facts.get(tensor) ?? this.#outer?.of(tensor) ?? NOTHING
  }

  #setConstant(name: string, tensor: TensorProto): void {
    const { length: rank } = tensor.dims
    this.#facts.set(name, { rank, type: tensor.dataType, length: rank === 1 ? Number(tensor.dims[0]) : undefined })
    this.#constants.set(name, tensor)
  }

  #constant(tensor: string | undefined): TensorProto | undefined {
    if (tensor === undefined) return undefined
    const constant = this.#constants.get(tensor)
    return constant ?? (this.#outer && !this.#facts.has(tensor) ? this.#outer.#constant(tensor) : undefined)
  }

  /** Facts of the outputs, in order. */
  #infer(node: NodeProto): Fact[] {
    const first = this.of(node.input[0])
    const inputs = node.input.map((name) => this.of(name))
    const { opType } = node
    if (node.domain !== '' && node.domain !== 'ai.onnx') return []
    if (LIKE_FIRST.has(opType)) {
      const like = { rank: first.rank, type: first.type }
      return node.output.map((_, i) => (i === 0 || opType === 'Split' ? like : INT64_SECOND.has(opType) ? { rank: first.rank, type: INT64 } : NOTHING))
    }
    if (BROADCAST.has(opType)) return [{ rank: widest(inputs), type: first.type, length: commonLength(inputs) }]
    if (COMPARE.has(opType)) return [{ rank: widest(inputs), type: BOOL }]
    if (REDUCE.has(opType)) return [{ rank: this.#reducedRank(node, first), type: first.type }]
    return [this.#inferSpecial(node, first, inputs)]
  }

  #inferSpecial(node: NodeProto, first: Fact, inputs: readonly Fact[]): Fact {
    const second = inputs[1] ?? NOTHING
    switch (node.opType) {
      case 'Constant': {
        const value = attribute(node, 'value')?.t
        if (value) this.#setConstant(node.output[0] as string, value)
        return value ? this.of(node.output[0]) : NOTHING
      }
      case 'Cast':
        return { ...first, type: intAttribute(node, 'to') }
      case 'CastLike':
        return { ...first, type: second.type }
      case 'Shape':
        return { rank: 1, type: INT64, length: (intAttribute(node, 'start') ?? intAttribute(node, 'end')) ? undefined : first.rank }
      case 'Size':
        return { rank: 0, type: INT64 }
      case 'NonZero':
        return { rank: 2, type: INT64 }
      case 'Range':
        return { rank: 1, type: first.type }
      case 'ArgMax':
      case 'ArgMin':
        return { rank: minus(first.rank, intAttribute(node, 'keepdims', 1) === 0 ? 1 : 0), type: INT64 }
      case 'Where':
        return { rank: widest(inputs), type: second.type }
      case 'Expand':
        return { rank: second.length === undefined ? undefined : widest([first, { rank: second.length }]), type: first.type }
      case 'ConstantOfShape':
        return { rank: first.length, type: attribute(node, 'value')?.t?.dataType ?? FLOAT }
      case 'Reshape':
        return { rank: second.length, type: first.type }
      case 'Flatten':
      case 'Gemm':
        return { rank: 2, type: first.type }
      case 'MatMul':
        return { rank: matMulRank(first.rank, second.rank), type: first.type }
      case 'Concat':
        return { rank: inputs.find(({ rank }) => rank !== undefined)?.rank, type: first.type, length: totalLength(inputs) }
      case 'Gather': {
        const rank = first.rank === undefined || second.rank === undefined ? undefined : first.rank + second.rank - 1
        return { rank, type: first.type, length: rank === 1 && first.rank === 1 ? second.length : undefined }
      }
      case 'Slice':
        return { rank: first.rank, type: first.type, length: first.rank === 1 ? this.#slicedLength(node, first.length) : undefined }
      case 'GatherElements':
        return { rank: second.rank, type: first.type }
      case 'OneHot':
        return { rank: first.rank === undefined ? undefined : first.rank + 1, type: inputs[2]?.type }
      case 'Squeeze':
        return { rank: minus(first.rank, this.#axisCount(node)), type: first.type }
      case 'Unsqueeze': {
        const rank = minus(first.rank, -(this.#axisCount(node) ?? NaN))
        return { rank, type: first.type, length: first.rank === 0 && rank === 1 ? 1 : undefined }
      }
      case 'DequantizeLinear':
        return { rank: first.rank, type: second.type }
      case 'QuantizeLinear':
        return { rank: first.rank, type: inputs[2]?.type }
      default:
        return NOTHING
    }
  }

  /** Elements that a Slice takes of a vector; the pieces of shapes that exporters cut and join. */
  #slicedLength(node: NodeProto, length: number | undefined): number | undefined {
    const bound = (name: string, position: number): number[] | undefined => {
      const tensor = this.#constant(node.input[position])
      return intsAttribute(node, name) ?? (tensor && [...tensorValues(tensor).data].map(Number))
    }
    const [start] = bound('starts', 1) ?? []
    const [end] = bound('ends', 2) ?? []
    const steps = (node.input[4] ?? '') === '' ? 1 : Number(bound('steps', 4)?.[0])
    if (start === undefined || end === undefined || length === undefined || steps !== 1) return undefined
    const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + length : at, 0), length)
    return Math.max(clamp(end) - clamp(start), 0)
  }

  /** Number of axes given by attribute or by a constant second input; undefined: absent or not known. */
  #axisCount(node: NodeProto): number | undefined {
    return intsAttribute(node, 'axes')?.length ?? this.of(node.input[1]).length
  }

  #reducedRank(node: NodeProto, { rank }: Fact): number | undefined {
    if (intAttribute(node, 'keepdims', 1) !== 0) return rank
    const axes = this.#axisCount(node)
    if (axes !== undefined && axes > 0) return minus(rank, axes)
    return (node.input[1] ?? '') === '' && intAttribute(node, 'noop_with_empty_axes', 0) === 0 ? 0 : undefined
  }
}

function declared(info: ValueInfoProto): Fact {
  const type = info.type?.value
  if (type?.case !== 'tensorType') return NOTHING
  return { rank: type.value.shape?.dim.length, type: type.value.elemType === 0 ? undefined : type.value.elemType }
}

function widest(inputs: readonly Fact[]): number | undefined {
  return inputs.reduce<number | undefined>((most, { rank }) => (most === undefined || rank === undefined ? undefined : Math.max(most, rank)), 0)
}

/** Length of an elementwise result of vectors and scalars, where one length is known. */
function commonLength(inputs: readonly Fact[]): number | undefined {
  if (widest(inputs) !== 1) return undefined
  const lengths = inputs.filter(({ rank }) => rank === 1).map(({ length }) => length)
  return lengths.every((length) => length === lengths[0]) ? lengths[0] : undefined
}

function totalLength(inputs: readonly Fact[]): number | undefined {
  return inputs.reduce<number | undefined>((sum, { length }) => (sum === undefined || length === undefined ? undefined : sum + length), 0)
}

function matMulRank(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return undefined
  if (a === 1 || b === 1) return Math.max(a + b - 2, 0)
  return Math.max(a, b)
}

function minus(rank: number | undefined, count: number | undefined): number | undefined {
  return rank === undefined || count === undefined || Number.isNaN(count) ? undefined : rank - count
}

function words(text: string): ReadonlySet<string> {
  return new Set(text.trim().split(/\s+/))
}
