// Gradients of operators that take each element from one of their inputs: that input gets the gradient.
import type { Gradient } from '../gradient.js'
import { toInput } from './arithmetic.js'

/** Min and Max of any number of inputs, broadcast. Of inputs that are equal the first gets the gradient. */
export const extreme: Gradient = (context) => {
  const { node, emit, scalar } = context
  const y = node.output[0] as string
  let rest = context.upstream[0] as string
  return node.input.map((input, index) => {
    const last = index === node.input.length - 1
    const chosen = last ? undefined : emit.op('Equal', [input, y])
    const share = chosen === undefined ? rest : emit.op('Where', [chosen, rest, scalar(0)])
    if (chosen !== undefined) rest = emit.op('Where', [chosen, scalar(0), rest])
    return context.wants(index) ? toInput(context, index, share) : undefined
  })
}

export const where: Gradient = (context) => {
  const { node, emit, scalar } = context
  const condition = node.input[0] as string
  const [dy] = context.upstream as [string]
  return [
    undefined,
    context.wants(1) ? toInput(context, 1, emit.op('Where', [condition, dy, scalar(0)])) : undefined,
    context.wants(2) ? toInput(context, 2, emit.op('Where', [condition, scalar(0), dy])) : undefined,
  ]
}
