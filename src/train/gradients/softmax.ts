// Gradients of softmax, its logarithm, and the cross-entropy loss on class indices.
import { attribute, intAttribute, stringAttribute } from '../../onnx/attributes.js'
import { elementCount } from '../../tensor/tensor.js'
import type { Gradient, GradientContext } from '../gradient.js'

/** dx = y·(dy − Σ dy·y), summed over the softmax's axis. */
export const softmax: Gradient = (context) => {
  const { node, emit } = context
  const [dy] = context.upstream as [string]
  const y = node.output[0] as string
  const sum = sumOver(context, emit.op('Mul', [dy, y]), intAttribute(node, 'axis', -1))
  return [emit.op('Mul', [y, emit.op('Sub', [dy, sum])])]
}

/** dx = dy − softmax(x)·Σ dy, summed over the softmax's axis. */
export const logSoftmax: Gradient = (context) => {
  const { node, emit, upstream } = context
  return [throughLogSoftmax(context, upstream[0] as string, emit.op('Exp', [node.output[0] as string]), intAttribute(node, 'axis', -1))]
}

/**
 * Loss −w[label]·log softmax(scores)[label] over axis 1: d scores = w[label]·(softmax − one-hot)·d loss, none where the
 * label is `ignore_index`; the mean is over the weights of those labels that count. The optional second output,
 * log softmax, has its own gradient.
 */
export const softmaxCrossEntropyLoss: Gradient = (context) => {
  const { node, emit, upstream, scalar } = context
  const [scores, , weights] = node.input as [string, string, string | undefined]
  if (context.wants(2)) context.refuse('its class weights would be trained; they can only be constants')
  const logProbabilities = node.output[1] === undefined || node.output[1] === '' ? undefined : node.output[1]
  const probabilities = logProbabilities === undefined ? emit.op('Softmax', [scores], { attributes: { axis: 1 } }) : emit.op('Exp', [logProbabilities])
  const parts: string[] = []
  if (upstream[0] !== undefined) {
    const { counted, classes } = labelsOf(context)
    const coefficients = coefficientsOf(context, { counted, classes, weights })
    const channel = emit.op('Unsqueeze', [coefficients, emit.ints([1])])
    const missing = emit.op('Where', [emitIsLabel(context, classes), emit.op('Sub', [probabilities, scalar(1)]), probabilities])
    parts.push(emit.op('Mul', [missing, channel]))
  }
  if (upstream[1] !== undefined) parts.push(throughLogSoftmax(context, upstream[1], probabilities, 1))
  return [parts.length === 1 ? parts[0] : emit.op('Add', parts)]
}

/** Where a score is that of its label, of the scores' shape. */
function emitIsLabel({ node, emit, dims, dtype }: GradientContext, classes: string): string {
  const [scores, labels] = node.input as [string, string]
  const dimsX = dims(scores)
  const count = dimsX[1] as number
  const numbers = emit.tensor(
    dtype(labels) as 'int32' | 'int64',
    dimsX.map((_, axis) => (axis === 1 ? count : 1)),
    Array.from({ length: count }, (_, index) => index),
  )
  return emit.op('Equal', [emit.op('Unsqueeze', [classes, emit.ints([1])]), numbers])
}

/** d loss by each label's own loss term, of the labels' shape. */
function coefficientsOf(
  context: GradientContext,
  { counted, classes, weights }: { counted: string | undefined; classes: string; weights: string | undefined },
): string {
  const { node, emit, dims, upstream, scalar } = context
  const labels = node.input[1] as string
  const dy = upstream[0] as string
  const reduction = stringAttribute(node, 'reduction', 'mean')
  const weighted = weights === undefined || weights === '' ? undefined : emit.op('Gather', [weights, classes], { attributes: { axis: 0 } })
  const share = counted === undefined ? weighted : emit.op('Where', [counted, weighted ?? scalar(1), scalar(0)])
  if (share === undefined) {
    const each = reduction === 'mean' ? emit.op('Mul', [dy, scalar(1 / elementCount(dims(labels)))]) : dy
    return reduction === 'none' ? each : emit.op('Expand', [each, emit.ints(dims(labels))])
  }
  if (reduction !== 'mean') return emit.op('Mul', [share, dy])
  const total = emit.op('ReduceSum', [share], { attributes: { keepdims: 0 } })
  return emit.op('Mul', [share, emit.op('Div', [dy, total])])
}

/** The labels with those that are ignored replaced by class 0, and which count; undefined where all do. */
function labelsOf({ node, emit, dtype }: GradientContext): { counted: string | undefined; classes: string } {
  const labels = node.input[1] as string
  if (attribute(node, 'ignore_index') === undefined) return { counted: undefined, classes: labels }
  const integer = dtype(labels) as 'int32' | 'int64'
  const ignored = emit.op('Equal', [labels, emit.scalar(intAttribute(node, 'ignore_index', 0), integer)])
  return { counted: emit.op('Not', [ignored]), classes: emit.op('Where', [ignored, emit.scalar(0, integer), labels]) }
}

function throughLogSoftmax(context: GradientContext, upstream: string, probabilities: string, axis: number): string {
  const { emit } = context
  return emit.op('Sub', [upstream, emit.op('Mul', [probabilities, sumOver(context, upstream, axis)])])
}

function sumOver({ emit }: GradientContext, tensor: string, axis: number): string {
  return emit.op('ReduceSum', [tensor, emit.ints([axis])], { attributes: { keepdims: 1 } })
}
