// The loss between a tensor inside the student and one inside the teacher; Romero et al., "FitNets: Hints for Thin Deep
// Nets" (2015). Both are of one shape: a projection of one to the other is a part of the graph.
import { Type, type Static } from 'typebox'
import { elementCount } from '../../tensor/tensor.js'
import { meanSquaredError } from './differences.js'
import { emitMean, targetLike, type Float, type Loss } from './loss.js'

export const FeatureSchema = Type.Object(
  {
    kind: Type.Literal('feature'),
    measure: Type.Enum(['mse', 'cosine'], { default: 'mse', description: 'Squared differences, or one minus the cosine of each row' }),
  },
  { additionalProperties: false },
)

export function feature({ measure }: Omit<Static<typeof FeatureSchema>, 'kind'>): Loss {
  return measure === 'mse' ? meanSquaredError : cosineDistance
}

/** Added to squared lengths, so that a row of zeros has a cosine and a gradient. */
const LEAST_SQUARE = 1e-12

/** Mean over rows of 1 − cos(prediction, target), each row being all that lies behind the first axis. */
const cosineDistance: Loss = (emit, inputs) => {
  const { prediction, tensors } = inputs
  const dims = tensors.dims(prediction)
  const dtype = tensors.dtype(prediction) as Float
  const rows = emit.ints([dims[0] ?? 1, elementCount(dims.slice(1))])
  const [a, b] = [prediction, targetLike(emit, inputs)].map((tensor) => emit.op('Reshape', [tensor, rows])) as [string, string]
  const dot = (x: string, y: string) => emit.op('ReduceSum', [emit.op('Mul', [x, y]), emit.ints([1])], { attributes: { keepdims: 0 } })
  const length = (x: string) => emit.op('Sqrt', [emit.op('Add', [dot(x, x), emit.scalar(LEAST_SQUARE, dtype)])])
  const cosine = emit.op('Div', [dot(a, b), emit.op('Mul', [length(a), length(b)])])
  return emitMean(emit, emit.op('Sub', [emit.scalar(1, dtype), cosine]))
}
