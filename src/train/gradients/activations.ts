// Gradients of activations: element by element, and by what their inputs other than x do to them.
import { floatAttribute, stringAttribute } from '../../onnx/attributes.js'
import { dtypes } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { emitSumTo } from './broadcast.js'
import { bySlope } from './elementary.js'

/** dx = dy where y > 0; zero at the kink, as is usual. As a product: Where takes the runtime half as long again. */
export const relu: Gradient = ({ node, emit, dtype, upstream, scalar }) => {
  const [y] = node.output as [string]
  const positive = emit.op('Greater', [y, scalar(0)])
  return [emit.op('Mul', [upstream[0] as string, emit.op('Cast', [positive], { attributes: { to: dtypes[dtype(y)].onnx } })])]
}

/** dx = dy where x > 0, else α·dy */
export const leakyRelu: Gradient = ({ node, emit, upstream, scalar }) => {
  const [dy] = upstream as [string]
  const positive = emit.op('Greater', [node.input[0] as string, scalar(0)])
  return [emit.op('Where', [positive, dy, emit.op('Mul', [dy, scalar(floatAttribute(node, 'alpha', 0.01))])])]
}

/** y = x where x > 0, else s·x, with the slopes s broadcast to x: ds = x·dy where x ≤ 0. */
export const pRelu: Gradient = (context) => {
  const { node, emit, dims, upstream, scalar } = context
  const [x, slope] = node.input as [string, string]
  const [dy] = upstream as [string]
  const positive = emit.op('Greater', [x, scalar(0)])
  const bySlopes = () => emitSumTo(emit, emit.op('Where', [positive, scalar(0), emit.op('Mul', [dy, x])]), dims(x), dims(slope))
  return [context.wants(0) ? emit.op('Where', [positive, dy, emit.op('Mul', [dy, slope])]) : undefined, context.wants(1) ? bySlopes() : undefined]
}

/** y = α·(eˣ − 1) where x < 0, else x: the slope of the curved part is y + α. */
export const elu: Gradient = ({ node, emit, upstream, scalar }) => {
  const [dy] = upstream as [string]
  const positive = emit.op('Greater', [node.input[0] as string, scalar(0)])
  const curved = emit.op('Mul', [dy, emit.op('Add', [node.output[0] as string, scalar(floatAttribute(node, 'alpha', 1))])])
  return [emit.op('Where', [positive, dy, curved])]
}

/** y·(1 − y) */
export const sigmoid = bySlope(({ emit, scalar }, _, y) => emit.op('Mul', [y, emit.op('Sub', [scalar(1), y])]))

/** 1 − y² */
export const tanh = bySlope(({ emit, scalar }, _, y) => emit.op('Sub', [scalar(1), emit.op('Mul', [y, y])]))

/** The slope of ln(1 + eˣ) is the sigmoid. */
export const softplus = bySlope(({ emit }, x) => emit.op('Sigmoid', [x]))

/** y = α·x + β between 0 and 1; flat at both and beyond. */
export const hardSigmoid: Gradient = (context) => {
  const { node, emit, upstream, scalar } = context
  const sloped = emit.op('Mul', [upstream[0] as string, scalar(floatAttribute(node, 'alpha', 0.2))])
  return [emit.op('Where', [between(context, node.output[0] as string, scalar(0), scalar(1)), sloped, scalar(0)])]
}

/** y = x·h with h = x/6 + 1/2 between 0 and 1: the slope is h + x/6 where h is sloped, else h. */
export const hardSwish = bySlope((context, x) => {
  const { emit, scalar } = context
  const gate = emit.op('HardSigmoid', [x], { attributes: { alpha: { float: 1 / 6 }, beta: { float: 0.5 } } })
  const sloped = emit.op('Where', [between(context, gate, scalar(0), scalar(1)), emit.op('Mul', [x, scalar(1 / 6)]), scalar(0)])
  return emit.op('Add', [gate, sloped])
})

/** dx = dy between the limits, zero at them and beyond; a limit, which may be learned, gets what it cut off. */
export const clip: Gradient = (context) => {
  const { node, emit, upstream, scalar } = context
  const [x, low, high] = node.input.map((name) => (name === '' ? undefined : name)) as [string, string?, string?]
  const [dy] = upstream as [string]
  const sumWhere = (condition: string) => emit.op('ReduceSum', [emit.op('Where', [condition, dy, scalar(0)])], { attributes: { keepdims: 0 } })
  const byInput = () => (low === undefined && high === undefined ? dy : emit.op('Where', [between(context, x, low, high), dy, scalar(0)]))
  return [
    context.wants(0) ? byInput() : undefined,
    context.wants(1) ? sumWhere(emit.op('Less', [x, low as string])) : undefined,
    context.wants(2) ? sumWhere(emit.op('Greater', [x, high as string])) : undefined,
  ]
}

/** Gelu x·Φ(x), Φ the normal distribution, exactly or by its approximation with tanh. Hendrycks and Gimpel (2016). */
export const gelu = bySlope((context, x) => {
  const { emit, scalar, node } = context
  const mul = (a: string, b: string) => emit.op('Mul', [a, b])
  const half = (a: string) => mul(emit.op('Add', [a, scalar(1)]), scalar(0.5))
  const square = mul(x, x)
  if (stringAttribute(node, 'approximate', 'none') === 'none') {
    // Φ(x) + x·φ(x)
    const probability = half(emit.op('Erf', [mul(x, scalar(Math.SQRT1_2))]))
    const density = mul(emit.op('Exp', [mul(square, scalar(-0.5))]), scalar(1 / Math.sqrt(2 * Math.PI)))
    return emit.op('Add', [probability, mul(x, density)])
  }
  // With t = tanh u, u = √(2/π)·(x + 0.044715·x³): (1 + t)/2 + x·(1 − t²)/2·u′
  const [scale, cubic] = [Math.sqrt(2 / Math.PI), 0.044715]
  const polynomial = (factor: number) => emit.op('Add', [mul(square, scalar(scale * factor)), scalar(scale)])
  const t = emit.op('Tanh', [mul(x, polynomial(cubic))])
  const bend = mul(mul(x, scalar(0.5)), emit.op('Sub', [scalar(1), mul(t, t)]))
  return emit.op('Add', [half(t), mul(bend, polynomial(3 * cubic))])
})

/** Whether elements lie strictly between two limits, of which one may be absent. */
function between({ emit }: GradientContext, tensor: string, low: string | undefined, high: string | undefined): string {
  const above = low === undefined ? undefined : emit.op('Greater', [tensor, low])
  const below = high === undefined ? undefined : emit.op('Less', [tensor, high])
  return above !== undefined && below !== undefined ? emit.op('And', [above, below]) : ((above ?? below) as string)
}
