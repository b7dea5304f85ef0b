// Gradients of operators that pass their input on as it is, in another type, or in part.
import { dtypes } from '../../tensor/tensor.js'
import type { Gradient } from '../gradient.js'
import { storedNumbers } from './constants.js'

export const identity: Gradient = ({ upstream }) => [upstream[0]]

/** Between float types; the gradient is cast back. */
export const cast: Gradient = ({ node, emit, dtype, upstream }) => [
  emit.op('Cast', [upstream[0] as string], { attributes: { to: dtypes[dtype(node.input[0] as string)].onnx } }),
]

/** Identity unless in training mode: then what the mask kept, divided by the share that is kept on average. */
export const dropout: Gradient = (context) => {
  const { node, emit, dtype, refuse, upstream, scalar } = context
  const [, ratio, mode] = node.input
  const [y, mask] = node.output as [string, string?]
  const [dy] = upstream as [string]
  if (mode === undefined || mode === '') return [dy]
  const [training] = storedNumbers(context, 2) ?? refuse('its training_mode is computed, expected a constant one')
  if (training === 0) return [dy]
  if (mask === undefined || mask === '') return refuse('in training mode it needs its second output, the mask')
  const dropped = ratio === undefined || ratio === '' ? scalar(0.5) : emit.op('Cast', [ratio], { attributes: { to: dtypes[dtype(y)].onnx } })
  return [emit.op('Where', [mask, emit.op('Div', [dy, emit.op('Sub', [scalar(1), dropped])]), scalar(0)])]
}
