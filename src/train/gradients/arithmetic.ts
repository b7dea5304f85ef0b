// Gradients of sums, products and quotients, with broadcasting.
import type { Gradient, GradientContext } from '../gradient.js'
import { emitSumTo } from './broadcast.js'

/** A gradient of the output's shape, made one of the shape of input `index`. */
export function toInput(context: GradientContext, index: number, gradient: string): string {
  const { node, emit, dims } = context
  return emitSumTo(emit, gradient, dims(node.output[0] as string), dims(node.input[index] as string))
}

/** d(a + b) = da + db; `Sum` has any number of terms. */
export const add: Gradient = (context) =>
  context.node.input.map((_, index) => (context.wants(index) ? toInput(context, index, context.upstream[0] as string) : undefined))

/** d(a − b) = da − db */
export const sub: Gradient = (context) => {
  const [dy] = context.upstream as [string]
  return [context.wants(0) ? toInput(context, 0, dy) : undefined, context.wants(1) ? context.emit.op('Neg', [toInput(context, 1, dy)]) : undefined]
}

/** d(a·b) = b·da + a·db */
export const mul: Gradient = (context) => {
  const { node, emit } = context
  const [dy] = context.upstream as [string]
  return [0, 1].map((index) => (context.wants(index) ? toInput(context, index, emit.op('Mul', [dy, node.input[1 - index] as string])) : undefined))
}

/** d(a/b) = da/b − a/b·db/b */
export const div: Gradient = (context) => {
  const { node, emit } = context
  const [dy] = context.upstream as [string]
  const scaled = emit.op('Div', [dy, node.input[1] as string])
  return [
    context.wants(0) ? toInput(context, 0, scaled) : undefined,
    context.wants(1) ? emit.op('Neg', [toInput(context, 1, emit.op('Mul', [scaled, node.output[0] as string]))]) : undefined,
  ]
}
