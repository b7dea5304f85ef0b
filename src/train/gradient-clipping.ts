// Gradients held to a length: Pascanu et al., "On the difficulty of training recurrent neural networks" (2013).
import type { Emitter } from '../onnx/emitter.js'

/** Emits a flat gradient scaled so that its Euclidean norm is at most `most`; also the name of the norm before, a scalar. */
export function emitClip(emit: Emitter, gradients: string, most: number): { gradients: string; norm: string } {
  const norm = emit.op('ReduceL2', [gradients], { attributes: { keepdims: 0 } })
  const factor = emit.op('Div', [emit.scalar(most), emit.op('Max', [norm, emit.scalar(most)])])
  return { gradients: emit.op('Mul', [gradients, factor]), norm }
}
