// Gradients held to a length: Pascanu et al., "On the difficulty of training recurrent neural networks" (2013).
import type { Emitter } from '../onnx/emitter.js'

/**
 * Emits a flat gradient scaled so that its Euclidean norm is at most `most`; also the name of the norm before, a scalar.
 * @param known a scalar in place of that norm: where `gradients` are a part of what is clipped, that of all
 */
export function emitClip(emit: Emitter, gradients: string, most: number, known?: string): { gradients: string; norm: string } {
  const norm = known ?? emit.op('ReduceL2', [gradients], { attributes: { keepdims: 0 } })
  const factor = emit.op('Div', [emit.scalar(most), emit.op('Max', [norm, emit.scalar(most)])])
  return { gradients: emit.op('Mul', [gradients, factor]), norm }
}
