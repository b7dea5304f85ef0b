// One rule an operator: which axes of its inputs and outputs must keep the same indices. Axes that a rule does not
// mention must stay as they are. Reshapes are reshaping.ts's business, operators with weights weighted-rules.ts's.
import { intAttribute, intsAttribute } from '../../onnx/attributes.js'
import { allAxes, axisOf, constantNumbers, rankOf, ref, same, sizeOf, slicedAxes, type Rule } from './coupling.js'
import { offset, type AxisRef, type Link } from './coordinates.js'
import { arrangingAxes } from './size-flow.js'
import { channelNormalization, convolution, gemm, layerNormalization, matMul, recurrent, transposedConvolution } from './weighted-rules.js'

/** Operands aligned at their last axes; those of size 1 are broadcast. */
const elementwise: Rule = ({ input, output }, { shapes }) => {
  const rank = rankOf(output[0], shapes)
  return {
    links: [...input, ...output.slice(1)].flatMap((operand) => {
      const shift = rank - rankOf(operand, shapes)
      return Array.from({ length: rank - shift }, (_, axis) => same(ref(operand, axis), ref(output[0], axis + shift), shapes)).flat()
    }),
  }
}

/** Batch and channels pass; positions stay. */
const pool: Rule = ({ input: [x], output }, { shapes }) => ({
  links: output.flatMap((y) => [...same(ref(x, 0), ref(y, 0), shapes), ...same(ref(x, 1), ref(y, 1), shapes)]),
})

const transpose: Rule = (node, { shapes }) => {
  const rank = rankOf(node.input[0], shapes)
  const perm = intsAttribute(node, 'perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis)
  return { links: perm.flatMap((from, to) => same(ref(node.input[0], from), ref(node.output[0], to), shapes)) }
}

/** The values along the axis depend on each other and on how many there are. */
const alongAxis: Rule = (node, { shapes }) => {
  const axis = axisOf(node, rankOf(node.input[0], shapes), -1)
  return { links: allAxes(node.input[0], node.output[0], shapes, (other) => other === axis) }
}

const concat: Rule = (node, { shapes }) => {
  const y = node.output[0]
  const axis = axisOf(node, rankOf(y, shapes), 0)
  let at = 0
  const links = node.input.flatMap((part) => {
    const count = sizeOf(ref(part, axis), shapes)
    const link = shapes.size(y ?? '', axis) === undefined ? [] : [offset(ref(part, axis), ref(y, axis), count, at)]
    at += count
    return [...allAxes(part, y, shapes, (other) => other === axis), ...link]
  })
  return { links }
}

const split: Rule = (node, { shapes }) => {
  const x = node.input[0]
  const axis = axisOf(node, rankOf(x, shapes), 0)
  let at = 0
  const links = node.output.flatMap((part) => {
    const count = sizeOf(ref(part, axis), shapes)
    const link = shapes.size(x ?? '', axis) === undefined ? [] : [offset(ref(part, axis), ref(x, axis), count, at)]
    at += count
    return [...allAxes(part, x, shapes, (other) => other === axis), ...link]
  })
  return { links }
}

const slice: Rule = (node, facts) => {
  const { shapes } = facts
  const [x, y] = [node.input[0], node.output[0]]
  const cut = slicedAxes(node, facts)
  if (cut === undefined) return 'its bounds are computed'
  const links = allAxes(x, y, shapes, (axis) => cut.some((one) => one.axis === axis))
  const free: AxisRef[] = []
  for (const { axis, start, step } of cut) {
    if (step !== 1 || shapes.size(x ?? '', axis) === undefined) continue
    links.push(offset(ref(y, axis), ref(x, axis), sizeOf(ref(y, axis), shapes), start))
    free.push(ref(x, axis))
  }
  return { links, free }
}

const pad: Rule = (node, { shapes, index }) => {
  const pads = constantNumbers(node, 1, index)
  const rank = rankOf(node.input[0], shapes)
  if (pads === undefined || (node.input[3] ?? '') !== '') return 'its pads are computed or its axes are named'
  return { links: allAxes(node.input[0], node.output[0], shapes, (axis) => pads[axis] !== 0 || pads[axis + rank] !== 0) }
}

/** Sums do not miss what is zero; means and extremes do. */
const reduce =
  (removable: boolean): Rule =>
  (node, { shapes, index }) => {
    const [x, y] = [node.input[0], node.output[0]]
    const rank = rankOf(x, shapes)
    const named = (node.input[1] ?? '') !== ''
    const given = named ? constantNumbers(node, 1, index) : []
    if (given === undefined) return 'its axes are computed'
    if (given.length === 0 && intAttribute(node, 'noop_with_empty_axes', 0) !== 0) return { links: allAxes(x, y, shapes) }
    const axes = new Set(given.length === 0 ? Array.from({ length: rank }, (_, axis) => axis) : given.map((axis) => (axis < 0 ? axis + rank : axis)))
    const keeps = intAttribute(node, 'keepdims', 1) !== 0
    let to = 0
    const links: Link[] = []
    for (let axis = 0; axis < rank; axis++) {
      if (!axes.has(axis)) links.push(...same(ref(x, axis), ref(y, to), shapes))
      if (keeps || !axes.has(axis)) to++
    }
    return removable ? { links, free: [...axes].map((axis) => ref(x, axis)) } : { links }
  }

const gather: Rule = (node, { shapes }) => {
  const [data, indices] = node.input
  const y = node.output[0]
  const rank = rankOf(data, shapes)
  const axis = axisOf(node, rank, 0)
  const more = rankOf(indices, shapes) - 1
  const links = Array.from({ length: rank }, (_, from) => (from === axis ? [] : same(ref(data, from), ref(y, from < axis ? from : from + more), shapes))).flat()
  return { links: [...links, ...Array.from({ length: more + 1 }, (_, from) => same(ref(indices, from), ref(y, axis + from), shapes)).flat()] }
}

/** Axes that are expanded from size 1 stay. */
const expand: Rule = ({ input: [x], output: [y] }, { shapes }) => {
  const shift = rankOf(y, shapes) - rankOf(x, shapes)
  return { links: Array.from({ length: rankOf(x, shapes) }, (_, axis) => same(ref(x, axis), ref(y, axis + shift), shapes)).flat() }
}

/** Its values follow the sizes by themselves, which changes nothing where they only arrange other values. */
const sizes: Rule = (node, { shapes, index }) => ({
  links: [],
  free: arrangingAxes(node, rankOf(node.input[0], shapes), index).map((axis) => ref(node.input[0], axis)),
})

const ELEMENTWISE =
  'Abs Acos Add And Asin Atan BitShift Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor'

export const rules: Readonly<Record<string, Rule>> = {
  ...Object.fromEntries(ELEMENTWISE.split(' ').map((name) => [name, elementwise])),
  AveragePool: pool,
  BatchNormalization: channelNormalization,
  Concat: concat,
  Conv: convolution,
  ConvTranspose: transposedConvolution,
  Expand: expand,
  GRU: recurrent,
  Gather: gather,
  Gemm: gemm,
  GlobalAveragePool: pool,
  GlobalLpPool: pool,
  GlobalMaxPool: pool,
  Hardmax: alongAxis,
  InstanceNormalization: channelNormalization,
  LSTM: recurrent,
  LayerNormalization: layerNormalization,
  LogSoftmax: alongAxis,
  LpPool: pool,
  MatMul: matMul,
  MaxPool: pool,
  Pad: pad,
  RNN: recurrent,
  ReduceL1: reduce(true),
  ReduceL2: reduce(true),
  ReduceLogSum: reduce(true),
  ReduceMax: reduce(false),
  ReduceMean: reduce(false),
  ReduceMin: reduce(false),
  ReduceProd: reduce(false),
  ReduceSum: reduce(true),
  ReduceSumSquare: reduce(true),
  Resize: pool,
  Shape: sizes,
  Slice: slice,
  Softmax: alongAxis,
  Split: split,
  Transpose: transpose,
}
