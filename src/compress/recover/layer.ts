// Nodes that are linear in their constant weights (Conv, Gemm, MatMul), in one form: rows of weights in groups, and
// where the bias is. Reads and writes them; how the weights are found is least-squares.ts's business.
import { floatAttribute, intAttribute } from '../../onnx/attributes.js'
import { tensorProto, tensorValues } from '../../onnx/builder.js'
import type { GraphIndex } from '../../onnx/graph.js'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto, TensorProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'
import type { Model } from '../passes/pass.js'
import { weightUse, type WeightLayout } from '../pruning/weight-layouts.js'

/** Output row r of group g is weights(g, r) · x(g) + bias. */
export interface Layer {
  node: NodeProto
  input: string
  output: string
  groups: number
  /** Weights of a row. */
  width: number
  /** Rows of a group. */
  rows: number
  /** Dims of the weights as they are stored. */
  dims: readonly number[]
  /** Whether a constant can be added to the output. */
  biased: boolean
  /** [groups, rows, width]. */
  weights(): Float64Array
  /** Adds to weights, [groups, rows, width], and to the bias, [groups, rows]; zeros of the weights must get zeros. */
  add(weights: Float64Array, bias: Float64Array): void
}

/** `model` is what `add` changes; it may be changed in place. */
export function layerOf(node: NodeProto, model: Model, index: GraphIndex): Layer | { refusal: string } {
  if (!/^(Conv|Gemm|MatMul)$/.test(node.opType) || (node.domain !== '' && node.domain !== 'ai.onnx')) return { refusal: `${node.opType} has no weights to fit` }
  const [input = '', weight = ''] = node.input
  const [output = ''] = node.output
  const proto = index.constantProto(weight)
  if (proto === undefined) return { refusal: 'its weights are not constant' }
  if (proto.dataType !== dtypes.float32.onnx) return { refusal: 'its weights are not float32' }
  if (index.constantProto(input) !== undefined) return { refusal: 'it computes with constants only' }
  if (index.consumers(weight).length !== 1) return { refusal: 'it shares its weights with another node' }
  const dims = proto.dims.map(Number)
  if (node.opType !== 'Conv' && dims.length !== 2) return { refusal: `its weights have rank ${dims.length}, not 2` }
  if (node.opType === 'Gemm' && intAttribute(node, 'transA', 0) !== 0) return { refusal: 'its left operand is transposed' }
  if (node.opType === 'Gemm' && (floatAttribute(node, 'alpha', 1) !== 1 || floatAttribute(node, 'beta', 1) !== 1))
    return { refusal: 'it scales its product or bias' }
  const { layout } = weightUse(node, 1, dims)
  const groups = node.opType === 'Conv' ? intAttribute(node, 'group', 1) : 1
  const addBias = biasAdder(node, layout.rows, model, index)
  return {
    node,
    input,
    output,
    groups,
    width: layout.inputs * layout.kernel,
    rows: layout.rows / groups,
    dims,
    biased: addBias !== undefined,
    weights: () => {
      const values = tensorValues(proto).data as Float32Array
      return Float64Array.from(positions(layout), (at) => values[at]!)
    },
    add: (weights, bias) => {
      const values = new Float32Array(tensorValues(proto).data as Float32Array)
      let i = 0
      for (const at of positions(layout)) values[at]! += weights[i++]!
      store(proto, values)
      addBias?.(bias)
    },
  }
}

/** Where each weight is stored, row by row. */
function* positions({ rows, inputs, inputStride, kernel, start }: WeightLayout): Generator<number> {
  for (let row = 0; row < rows; row++) {
    const first = start(row)
    for (let input = 0; input < inputs; input++) for (let k = 0; k < kernel; k++) yield first + input * inputStride + k
  }
}

/** Other models share the bytes as they were. */
function store(proto: TensorProto, values: Float32Array<ArrayBuffer>): void {
  proto.floatData = []
  proto.rawData = new Uint8Array(values.buffer)
}

/** What adds to the bias: of the node itself, which need not have one yet, or of the Add that alone reads a MatMul. */
function biasAdder(node: NodeProto, rows: number, model: Model, index: GraphIndex): ((bias: Float64Array) => void) | undefined {
  const [output = ''] = node.output
  const set = (owner: NodeProto, position: number, dims: readonly number[], before: Float32Array) => (bias: Float64Array) => {
    const name = tensorNames(model)(`${output}::bias`)
    const values = Float32Array.from(bias, (value, channel) => value + before[channel % before.length]!)
    model.graph.initializer.push(tensorProto(name, 'float32', dims, values))
    owner.input[position] = name
  }
  const constant = (tensor: string) => {
    const proto = index.constantProto(tensor)
    return proto?.dataType === dtypes.float32.onnx ? tensorValues(proto) : undefined
  }
  if (node.opType !== 'MatMul') {
    const [, , bias = ''] = node.input
    if (bias === '') return set(node, 2, [rows], new Float32Array(1))
    const found = constant(bias)
    return found && (found.data.length === rows || found.data.length === 1) ? set(node, 2, [rows], found.data as Float32Array) : undefined
  }
  const [add, ...others] = index.consumers(output)
  if (add?.opType !== 'Add' || others.length > 0 || index.isOutput(output)) return undefined
  const position = add.input[0] === output ? 1 : 0
  const found = constant(add.input[position] ?? '')
  return found && found.data.length === rows && found.dims.at(-1) === rows ? set(add, position, found.dims, found.data as Float32Array) : undefined
}

/**
 * Where the output of a layer is added to a tensor that is computed elsewhere, and read by nothing else (bias of a MatMul
 * added before): that sum, and what is added. A residual connection, for instance.
 */
export function sumAfter({ node, output }: Layer, index: GraphIndex): { sum: string; other: string } | undefined {
  const soleReader = (tensor: string) => {
    const readers = index.consumers(tensor)
    return readers.length === 1 && readers[0]!.opType === 'Add' && !index.isOutput(tensor) ? readers[0] : undefined
  }
  const otherOf = (add: NodeProto, tensor: string) => add.input.find((name) => name !== tensor)
  const isConstant = (tensor: string | undefined) => tensor !== undefined && index.constantProto(tensor) !== undefined
  let [tensor, add] = [output, soleReader(output)]
  if (node.opType === 'MatMul' && add !== undefined && isConstant(otherOf(add, tensor))) {
    tensor = add.output[0]!
    add = soleReader(tensor)
  }
  const other = add && otherOf(add, tensor)
  return add === undefined || other === undefined || isConstant(other) ? undefined : { sum: add.output[0]!, other }
}
