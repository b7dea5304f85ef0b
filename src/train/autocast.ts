// Mixed precision as a rewrite of the forward pass: matrix products and convolutions compute in float16, what is sensitive
// stays float32. Micikevicius et al., "Mixed Precision Training" (2018). Gradients need no rules of their own: that of a
// Cast is a Cast back, so parameters, which are float32 outside, get float32 gradients.
import { node as makeNode } from '../onnx/builder.js'
import { Emitter } from '../onnx/emitter.js'
import { usedTensors } from '../onnx/graph.js'
import { shallowCopy, type NodeProto, type TensorProto } from '../onnx/proto.js'
import { float16From, float32FromFloat16 } from '../tensor/float16.js'
import { dtypes, type Tensor } from '../tensor/tensor.js'
import type { Tensors } from './gradient.js'

/**
 * What float16 reaches. `products`: results of products become float32 at once, as with the level O1 of other frameworks.
 * `graph`: they stay float16 through elementwise, shape and pooling operators, until a float32 value meets them or an
 * operator needs one: similar to O2.
 */
export type AutocastLevel = 'products' | 'graph'

export interface AutocastOptions {
  level: AutocastLevel
  tensors: Tensors
  /** Tensors that are trained. */
  parameters: ReadonlySet<string>
  /** Tensors that are read in float32 by others than the nodes, as losses do. */
  wanted: ReadonlySet<string>
  /** Makes names that no tensor has. */
  unique: (base: string) => string
  /**
   * Compute in float32 and round every result to float16, the same arithmetic for devices without it: there the runtime
   * takes out the casts that surround its own, and would neither round nor overflow.
   */
  emulated: boolean
}

const PRODUCTS = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul'])
/** They only choose, move or negate values: rounding before them gives what rounding after them gives. */
const EXACT = new Set(
  'Abs Concat Expand Flatten GlobalMaxPool Identity Max MaxPool Min Neg Pad Relu Reshape Slice Split Squeeze Tile Transpose Unsqueeze Where'.split(' '),
)
/** They follow products: none sums many values, nor leaves the range of what it reads by much. A Gather is no reason to cast a whole table. */
const FOLLOWING = new Set([
  ...EXACT,
  ...'Add AveragePool Clip Div Dropout Elu Erf Gather GatherElements Gelu HardSigmoid HardSwish LeakyRelu Mul PRelu Sigmoid Sub Sum Tanh'.split(' '),
])
/** Float inputs, by position, whose type is free. */
const FREE: Readonly<Record<string, number>> = { Dropout: 1 }
/** The largest float16, and the least positive one that is precise. */
const [LARGEST, LEAST] = [65504, 2 ** -14]

/**
 * Nodes that compute the same tensors, in float16 where the level says so, with the Casts between: each tensor is cast
 * once at most, and none that there is in the wanted type. The nodes given stay as they are.
 */
export function autocast(nodes: readonly NodeProto[], options: AutocastOptions): { nodes: NodeProto[]; initializers: TensorProto[] } {
  const { tensors } = options
  const halves = halfNodes(nodes, options)
  const forms = formsOf(options)
  for (const node of nodes) {
    if (!halves.has(node)) {
      for (const name of usedTensors(node)) forms.float(name)
      forms.emit.nodes.push(node)
      continue
    }
    const copy = shallowCopy(node)
    copy.input = node.input.map((name, index) => (!isFloat(name, tensors) ? name : FREE[node.opType] === index ? forms.float(name) : forms.half(name)))
    const outputs = node.output.map((name) => (isFloat(name, tensors) ? forms.written(name) : { name, after: () => {} }))
    copy.output = outputs.map(({ name }) => name)
    forms.emit.nodes.push(copy)
    for (const { after } of outputs) after()
  }
  for (const name of options.wanted) forms.float(name)
  return { nodes: forms.emit.nodes, initializers: forms.emit.initializers }
}

/** The float16 and float32 forms of tensors, made where they are asked for. */
interface Forms {
  emit: Emitter
  /** Name of what has the precision of float16. */
  half(name: string): string
  /** The tensor under its own name, in float32. */
  float(name: string): string
  /** What a node in float16 is to write in place of a tensor, and what to do when it has. */
  written(name: string): { name: string; after: () => void }
}

function formsOf({ tensors, parameters, unique, emulated }: AutocastOptions): Forms {
  const emit = new Emitter(unique)
  const halfOf = new Map<string, string>()
  const onlyHalf = new Set<string>()
  const cast = (from: string, to: string, dtype: 'float16' | 'float32') =>
    emit.nodes.push(makeNode('Cast', [from], [to], { name: `${to}::cast`, attributes: { to: dtypes[dtype].onnx } }))
  const castToHalf = (from: string, to: string) => {
    const short = emulated ? unique(`${to}::short`) : to
    cast(from, short, 'float16')
    if (emulated) cast(short, to, 'float32')
  }
  return {
    emit,
    half: (name) => {
      const known = halfOf.get(name)
      if (known !== undefined) return known
      const stored = parameters.has(name) ? undefined : tensors.constant(name)
      const made = stored === undefined ? unique(`${name}::half`) : halfConstant(emit, { name, stored, emulated })
      if (stored === undefined) castToHalf(name, made)
      halfOf.set(name, made)
      return made
    },
    float: (name) => {
      if (onlyHalf.delete(name)) cast(halfOf.get(name) as string, name, 'float32')
      return name
    },
    written: (name) => {
      if (emulated) {
        const exact = unique(`${name}::exact`)
        halfOf.set(name, name)
        return { name: exact, after: () => castToHalf(exact, name) }
      }
      const made = unique(`${name}::half`)
      halfOf.set(name, made)
      onlyHalf.add(name)
      return { name: made, after: () => {} }
    },
  }
}

function halfConstant(emit: Emitter, { name, stored, emulated }: { name: string; stored: Tensor; emulated: boolean }): string {
  const halves = float16From(stored.data as Float32Array)
  return emulated
    ? emit.tensor('float32', stored.dims, float32FromFloat16(halves), `${name}::half`)
    : emit.tensor('float16', stored.dims, halves, `${name}::half`)
}

/** The nodes that compute in float16. */
function halfNodes(nodes: readonly NodeProto[], { level, tensors, parameters, wanted }: AutocastOptions): Set<NodeProto> {
  const halves = new Set<NodeProto>()
  const written = new Set<string>()
  const isWeight = (name: string) => parameters.has(name) || tensors.constant(name) !== undefined
  const able = nodes.filter((node) => isAble(node, tensors, parameters))
  for (const node of able) {
    const computed = floatInputs(node, tensors).filter((name) => !isWeight(name))
    const follows = level === 'graph' && FOLLOWING.has(node.opType) && computed.length > 0 && computed.every((name) => written.has(name))
    if (!PRODUCTS.has(node.opType) && !follows) continue
    halves.add(node)
    for (const name of node.output) written.add(name)
  }
  if (level === 'products') return halves
  // What only float16 is made of can be float16 before, where that makes no difference.
  const readers = readersOf(nodes)
  for (const node of able.toReversed()) {
    if (halves.has(node) || !EXACT.has(node.opType)) continue
    const outputs = node.output.filter((name) => isFloat(name, tensors))
    const isRead = (name: string) => !wanted.has(name) && readers.has(name) && readers.get(name)?.every((reader) => halves.has(reader))
    if (outputs.every(isRead)) halves.add(node)
  }
  return halves
}

/** Whether float16 has a node's operator, for single precision so far, and what the constants are that it reads. */
function isAble(node: NodeProto, tensors: Tensors, parameters: ReadonlySet<string>): boolean {
  if (node.domain !== '' && node.domain !== 'ai.onnx') return false
  if (!PRODUCTS.has(node.opType) && !FOLLOWING.has(node.opType)) return false
  const inputs = floatInputs(node, tensors)
  if (inputs.length === 0 || !isFloat(node.output[0] as string, tensors)) return false
  return inputs.every((name) => {
    const data = parameters.has(name) ? [] : ((tensors.constant(name)?.data ?? []) as Float32Array)
    // Masks and the numbers that keep divisors from zero; single small weights among others do no harm.
    return data.every((value) => Math.abs(value) <= LARGEST && (data.length > 1 || value === 0 || Math.abs(value) >= LEAST))
  })
}

/** Inputs that would become float16. */
function floatInputs({ opType, input }: NodeProto, tensors: Tensors): string[] {
  return input.filter((name, index) => FREE[opType] !== index && isFloat(name, tensors))
}

function isFloat(name: string, tensors: Tensors): boolean {
  return name !== '' && tensors.dtype(name) === 'float32'
}

function readersOf(nodes: readonly NodeProto[]): Map<string, NodeProto[]> {
  const readers = new Map<string, NodeProto[]>()
  for (const node of nodes) {
    for (const name of usedTensors(node)) readers.set(name, [...(readers.get(name) ?? []), node])
  }
  return readers
}
