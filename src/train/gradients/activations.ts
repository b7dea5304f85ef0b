// Gradients of activations: element by element, no broadcasting.
import type { Gradient } from '../gradient.js'

/** dx = dy where y > 0; zero at the kink, as is usual. */
export const relu: Gradient = ({ node, emit, upstream, scalar }) => {
  const positive = emit.op('Greater', [node.output[0] as string, scalar(0)])
  return [emit.op('Where', [positive, upstream[0] as string, scalar(0)])]
}
