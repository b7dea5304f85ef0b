// Gradients of elementary functions, element by element: the output's gradient times the function's slope. Slopes are
// taken from the output where that saves computing the function again.
import { dtypes } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'
import { toInput } from './arithmetic.js'
import { storedNumbers } from './constants.js'

/** dx = slope·dy, for a function of one input. */
export function bySlope(slope: (context: GradientContext, x: string, y: string) => string): Gradient {
  return (context) => {
    const { node, emit, upstream } = context
    return [emit.op('Mul', [upstream[0] as string, slope(context, node.input[0] as string, node.output[0] as string)])]
  }
}

export const neg: Gradient = ({ emit, upstream }) => [emit.op('Neg', [upstream[0] as string])]

/** d|x| = sign(x)·dx; zero at the kink. */
export const abs = bySlope(({ emit }, x) => emit.op('Sign', [x]))

/** d(1/x) = −dx/x² */
export const reciprocal = bySlope(({ emit }, _, y) => emit.op('Neg', [emit.op('Mul', [y, y])]))

/** d√x = dx/2√x: infinite at zero. */
export const sqrt: Gradient = ({ node, emit, upstream, scalar }) => [
  emit.op('Div', [emit.op('Mul', [upstream[0] as string, scalar(0.5)]), node.output[0] as string]),
]

export const exp = bySlope((_, __, y) => y)

export const log: Gradient = ({ node, emit, upstream }) => [emit.op('Div', [upstream[0] as string, node.input[0] as string])]

/** d erf(x) = 2/√π·exp(−x²)·dx */
export const erf = bySlope(({ emit, scalar }, x) => {
  const bell = emit.op('Exp', [emit.op('Neg', [emit.op('Mul', [x, x])])])
  return emit.op('Mul', [bell, scalar(2 / Math.sqrt(Math.PI))])
})

export const sin = bySlope(({ emit }, x) => emit.op('Cos', [x]))

export const cos = bySlope(({ emit }, x) => emit.op('Neg', [emit.op('Sin', [x])]))

/**
 * y = xᵖ: dx = p·xᵖ⁻¹·dy and dp = y·ln x·dy, broadcast. Where p is zero, dx is zero even for x = 0; where x is zero, dp
 * is zero, its limit for p > 0. Exponents may be of another type than x, as in ONNX.
 */
export const pow: Gradient = (context) => {
  const { node, emit, dtype, upstream, scalar } = context
  const [x, exponent] = node.input as [string, string]
  const [dy, y] = [upstream[0] as string, node.output[0] as string]
  const cast = (tensor: string, from: string, to: string) =>
    dtype(from) === dtype(to) ? tensor : emit.op('Cast', [tensor], { attributes: { to: dtypes[dtype(to)].onnx } })
  const byBase = () => toInput(context, 0, emit.op('Mul', [dy, powerSlope(context, cast(exponent, exponent, y))]))
  const byExponent = () => {
    const growth = emit.op('Mul', [y, emit.op('Log', [x])])
    const safe = emit.op('Where', [emit.op('Equal', [x, scalar(0)]), scalar(0), growth])
    return cast(toInput(context, 1, emit.op('Mul', [dy, safe])), y, exponent)
  }
  return [context.wants(0) ? byBase() : undefined, context.wants(1) ? byExponent() : undefined]
}

/** p·xᵖ⁻¹, the exponent being of the type of x. */
function powerSlope(context: GradientContext, exponent: string): string {
  const { node, emit, scalar } = context
  const x = node.input[0] as string
  const values = storedNumbers(context, 1)
  if (values?.every((value) => value === 2)) return emit.op('Mul', [x, exponent])
  const slope = emit.op('Mul', [exponent, emit.op('Pow', [x, emit.op('Sub', [exponent, scalar(1)])])])
  if (values?.every((value) => value !== 0)) return slope
  // 0·0⁻¹ would not be a number.
  return emit.op('Where', [emit.op('Equal', [exponent, scalar(0)]), scalar(0), slope])
}
