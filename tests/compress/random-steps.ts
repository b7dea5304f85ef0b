// The operators of random graphs, by the rank of the tensor they go on from: images [c, h, w], sequences
// [length, width] and vectors [width]. Weights are scaled so that values stay near 1: what a pass does to a
// graph is to be seen, not what a graph does to rounding errors.
import type { AttributeValue } from '#flyweight/onnx/attributes.js'
import { imageSteps } from './random-image-steps.js'
import { loopStep, branchStep } from './random-subgraphs.js'
import type { Sketch, Value } from './random-graphs.js'

export type Step = (sketch: Sketch, value: Value) => Value | undefined

const LARGEST = 6000

/** Goes on from `value` by a step that suits it. */
export function randomStep(sketch: Sketch, value: Value): Value {
  const own = { 1: vectorSteps, 2: sequenceSteps, 3: imageSteps }[value.dims.length] ?? []
  for (;;) {
    // Half of the steps compute with weights; the rest is what lies between them.
    const step = sketch.pick(sketch.chance(0.75) ? own : anySteps)
    const next = step(sketch, value)
    if (next !== undefined && next.dims.reduce((a, b) => a * b, 1) <= LARGEST) return next
  }
}

const unary =
  (opType: string, attributes: Record<string, AttributeValue> = {}): Step =>
  (sketch, { name, dims }) =>
    sketch.apply(opType, [name], dims, attributes)

/** Activations and arithmetic that suit any rank. */
const anySteps: readonly Step[] = [
  unary('Relu'),
  unary('Relu'),
  unary('Sigmoid'),
  unary('Tanh'),
  unary('HardSwish'),
  unary('HardSigmoid', { alpha: { float: 0.2 }, beta: { float: 0.5 } }),
  unary('LeakyRelu', { alpha: { float: 0.1 } }),
  unary('Elu'),
  unary('Gelu'),
  (sketch, value) => sketch.apply('Clip', [value.name, sketch.floats([], [0]), sketch.chance(0.5) ? sketch.floats([], [6]) : ''], value.dims),
  (sketch, value) => softmax(sketch, value),
  // Swish, as exporters write it.
  (sketch, value) => sketch.apply('Mul', [value.name, sketch.apply('Sigmoid', [value.name], value.dims).name], value.dims),
  (sketch, value) => geluPieces(sketch, value),
  (sketch, value) => withConstant(sketch, value),
  (sketch, value) => withConstant(sketch, value),
  (sketch, value) => withEarlier(sketch, value),
  (sketch, value) => withEarlier(sketch, value),
  (sketch, value) => halves(sketch, value),
  (sketch, value) => loopStep(sketch, value),
  (sketch, value) => branchStep(sketch, value),
]

function softmax(sketch: Sketch, { name, dims }: Value): Value {
  const size = dims.at(-1) ?? 1
  const scores = sketch.apply('Softmax', [name], dims, { axis: -1 })
  // Back to values near 1: what follows would otherwise see a constant.
  return sketch.apply('Mul', [scores.name, sketch.floats([], [size])], dims)
}

/** x · ½ · (1 + erf(x ÷ √2)), as PyTorch exports Gelu. */
function geluPieces(sketch: Sketch, { name, dims }: Value): Value {
  const scaled = sketch.apply('Div', [name, sketch.floats([], [Math.SQRT2])], dims)
  const erf = sketch.apply('Erf', [scaled.name], dims)
  const gate = sketch.apply('Add', [erf.name, sketch.floats([], [1])], dims)
  const product = sketch.apply('Mul', [name, gate.name], dims)
  return sketch.apply('Mul', [product.name, sketch.floats([], [0.5])], dims)
}

/** Arithmetic with a constant that is a scalar, one a channel, or one an element, on either side. */
function withConstant(sketch: Sketch, { name, dims }: Value): Value {
  const shape = sketch.pick([[], [dims[0] ?? 1, ...dims.slice(1).map(() => 1)], [dims.at(-1) ?? 1], [1, ...dims]])
  const opType = sketch.pick(['Add', 'Mul', 'Sub', 'Div'])
  const constant = sketch.weights(shape, opType === 'Div' || opType === 'Mul' ? { mean: 1, deviation: 0.2 } : { deviation: 0.5 })
  const inputs = opType !== 'Div' && sketch.chance(0.4) ? [constant, name] : [name, constant]
  return sketch.apply(opType, inputs, dims)
}

/** Residual sums and the like, with an earlier tensor of the same shape, or one that broadcasts over it. */
function withEarlier(sketch: Sketch, value: Value): Value | undefined {
  const { name, dims } = value
  const partners = sketch.values.filter((other) => other.name !== name && other.dims.length === dims.length)
  const alike = partners.filter((other) => other.dims.every((dim, axis) => dim === dims[axis]))
  const joinable = partners.filter((other) => other.dims.every((dim, axis) => axis === 0 || dim === dims[axis]))
  if (joinable.length > 0 && (alike.length === 0 || sketch.chance(0.3))) {
    const other = sketch.pick(joinable)
    return sketch.apply('Concat', [name, other.name], [dims[0]! + other.dims[0]!, ...dims.slice(1)], { axis: 1 })
  }
  const broadcast = partners.filter((other) => other.dims.every((dim, axis) => dim === 1 || dim === dims[axis]))
  if (broadcast.length === 0) return undefined
  const inputs = [name, sketch.pick(broadcast).name]
  return sketch.apply(sketch.pick(['Add', 'Add', 'Add', 'Mul', 'Sub', 'Max', 'Min']), sketch.chance(0.5) ? inputs : inputs.reverse(), dims)
}

/** Cuts the first row axis in two, does something to one half, and puts them together the other way round or sums them. */
function halves(sketch: Sketch, { name, dims }: Value): Value | undefined {
  const [first = 0, ...rest] = dims
  if (first % 2 !== 0 || first < 4) return undefined
  const half = [first / 2, ...rest]
  if (sketch.chance(0.3)) {
    const from = sketch.integer(0, first / 2)
    return sketch.apply('Slice', [name, sketch.int64s([from]), sketch.int64s([from + first / 2]), sketch.int64s([1])], half)
  }
  const [a, b] = [sketch.name('t'), sketch.name('t')]
  sketch.add('Split', [name, sketch.int64s([first / 2, first / 2])], [a, b], { axis: 1 })
  const changed = sketch.apply(sketch.pick(['Relu', 'Sigmoid', 'Tanh', 'HardSwish']), [a], half)
  if (sketch.chance(0.5)) return sketch.apply('Concat', [b, changed.name], dims, { axis: 1 })
  return sketch.apply(sketch.pick(['Add', 'Mul']), [changed.name, b], half)
}

/** x · W + b as MatMul and Add, on the last axis. */
function linear(sketch: Sketch, { name, dims }: Value, to: number): Value {
  const from = dims.at(-1)!
  const out = [...dims.slice(0, -1), to]
  const product = sketch.apply('MatMul', [name, sketch.weights([from, to], { deviation: 1 / Math.sqrt(from) })], out)
  return sketch.chance(0.7) ? sketch.apply('Add', [product.name, sketch.weights([to], { deviation: 0.2 })], out) : product
}

function normalized(sketch: Sketch, { name, dims }: Value): Value {
  const width = dims.at(-1)!
  const inputs = [name, sketch.weights([width], { mean: 1, deviation: 0.2 }), ...(sketch.chance(0.7) ? [sketch.weights([width], { deviation: 0.2 })] : [])]
  // A large epsilon: rows that are nearly constant would turn rounding errors into signal.
  return sketch.apply('LayerNormalization', inputs, dims, { axis: -1, epsilon: { float: 0.01 } })
}

const vectorSteps: readonly Step[] = [
  (sketch, value) => linear(sketch, value, 4 * sketch.integer(1, 10)),
  gemm,
  gemm,
  normalized,
  (sketch, { name, dims }) => sketch.apply('Unsqueeze', [name, sketch.int64s([1])], [1, ...dims]),
  (sketch, { name, dims: [width = 0] }) => {
    if (width % 4 !== 0) return undefined
    const dims = sketch.chance(0.5) ? [width / 4, 2, 2] : [width / 4, 4]
    return sketch.apply('Reshape', [name, sketch.int64s([0, ...dims])], dims)
  },
]

function gemm(sketch: Sketch, { name, dims: [from = 1] }: Value): Value {
  const to = 4 * sketch.integer(1, 10)
  const transB = sketch.chance(0.5)
  const weight = sketch.weights(transB ? [to, from] : [from, to], { deviation: 1 / Math.sqrt(from) })
  const bias = sketch.chance(0.7) ? [sketch.weights(sketch.pick([[to], [1, to]]), { deviation: 0.2 })] : []
  const scaled = sketch.chance(0.2) ? { alpha: { float: 0.75 }, beta: { float: 1.5 } } : {}
  return sketch.apply('Gemm', [name, weight, ...bias], [to], { transB: Number(transB), ...scaled })
}

const sequenceSteps: readonly Step[] = [
  (sketch, value) => linear(sketch, value, 4 * sketch.integer(1, 8)),
  (sketch, value) => linear(sketch, value, value.dims[1]!),
  normalized,
  attention,
  recurrent,
  (sketch, { name, dims: [length = 1, width = 1] }) => sketch.apply('Transpose', [name], [width, length], { perm: [0, 2, 1] }),
  (sketch, { name, dims: [, width = 1] }) => sketch.apply('ReduceMean', [name, sketch.int64s([1])], [width], { keepdims: 0 }),
  (sketch, { name, dims: [, width = 1] }) => sketch.apply('Gather', [name, sketch.scalar(0)], [width], { axis: 1 }),
  (sketch, { name, dims }) => sketch.apply('Unsqueeze', [name, sketch.int64s([1])], [1, ...dims]),
  convolution1d,
  (sketch, { name, dims: [length = 1, width = 1] }) => (length * width > 400 ? undefined : sketch.apply('Flatten', [name], [length * width], { axis: 1 })),
]

/** Self-attention by two heads; queries, keys and values by products of their own. */
function attention(sketch: Sketch, value: Value): Value | undefined {
  const [length = 1, width = 1] = value.dims
  if (width % 4 !== 0) return undefined
  const [heads, depth] = [2, width / 2]
  const toHeads = sketch.int64s([0, 0, heads, depth])
  const split = (perm: number[], dims: number[]) => {
    const cut = sketch.apply('Reshape', [linear(sketch, value, width).name, toHeads], [length, heads, depth])
    return sketch.apply('Transpose', [cut.name], dims, { perm })
  }
  const [query, key, own] = [
    split([0, 2, 1, 3], [heads, length, depth]),
    split([0, 2, 3, 1], [heads, depth, length]),
    split([0, 2, 1, 3], [heads, length, depth]),
  ]
  const scores = sketch.apply('MatMul', [query.name, key.name], [heads, length, length])
  const scaled = sketch.apply('Mul', [scores.name, sketch.floats([], [1 / Math.sqrt(depth)])], scores.dims)
  const shares = sketch.apply('Softmax', [scaled.name], scores.dims, { axis: -1 })
  const context = sketch.apply('MatMul', [shares.name, own.name], [heads, length, depth])
  const joined = sketch.apply('Transpose', [context.name], [length, heads, depth], { perm: [0, 2, 1, 3] })
  const merged = sketch.apply('Reshape', [joined.name, sketch.int64s([0, 0, width])], [length, width])
  const projected = linear(sketch, merged, width)
  return sketch.apply('Add', [value.name, projected.name], value.dims)
}

/** LSTM or GRU over the length, of one direction or both. */
function recurrent(sketch: Sketch, { name, dims: [length = 1, width = 1] }: Value): Value {
  const opType = sketch.pick(['LSTM', 'GRU'])
  const gates = opType === 'LSTM' ? 4 : 3
  const [hidden, directions] = [4 * sketch.integer(1, 4), sketch.integer(1, 2)]
  const deviation = (from: number) => ({ deviation: 1 / Math.sqrt(from) })
  const inputs = [
    sketch.apply('Transpose', [name], [], { perm: [1, 0, 2] }).name,
    sketch.weights([directions, gates * hidden, width], deviation(width)),
    sketch.weights([directions, gates * hidden, hidden], deviation(hidden)),
    ...(sketch.chance(0.7) ? [sketch.weights([directions, 2 * gates * hidden], { deviation: 0.2 })] : []),
  ]
  // Neither has its batch in front: later nodes must not go on from them.
  sketch.values.pop()
  const all = sketch.name('t')
  sketch.add(opType, inputs, [all], { hidden_size: hidden, direction: directions === 2 ? 'bidirectional' : 'forward' })
  const arranged = sketch.name('t')
  sketch.add('Transpose', [all], [arranged], { perm: [2, 0, 1, 3] })
  const out = [length, directions * hidden]
  return sketch.apply('Reshape', [arranged, sketch.int64s([0, ...out])], out)
}

function convolution1d(sketch: Sketch, { name, dims: [channels = 1, length = 1] }: Value): Value {
  const to = 4 * sketch.integer(1, 4)
  const weight = sketch.weights([to, channels, 3], { deviation: 1 / Math.sqrt(3 * channels) })
  return sketch.apply('Conv', [name, weight], [to, length], { kernel_shape: [3], pads: [1, 1] })
}
