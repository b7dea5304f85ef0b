// Stochastic gradient descent with momentum, Nesterov's look-ahead and weight decay, by the formulas of PyTorch's SGD
// (Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013), without dampening.
// The vectors are as long as the model: every operation on one is a pass over memory, so formulas are arranged for few.
import { Type, type Static } from 'typebox'
import { optionError } from '../options.js'
import type { Optimizer } from './optimizer.js'

export const SgdSchema = Type.Object(
  {
    kind: Type.Literal('sgd'),
    momentum: Type.Number({ default: 0, minimum: 0, exclusiveMaximum: 1, description: 'Share of the last step that goes on into the next one' }),
    nesterov: Type.Boolean({ default: false, description: 'Take the gradient as if the momentum were followed already' }),
    weightDecay: Type.Number({ default: 0, minimum: 0, description: 'Added to the gradient, times the parameters' }),
  },
  { additionalProperties: false },
)

/**
 * Without momentum 2 passes over memory, with it 4, with Nesterov's 5; weight decay costs 1 or, with momentum, 2 more.
 * @throws FlyweightError `invalid_input` for Nesterov's momentum of 0
 */
export function sgd({ momentum, nesterov, weightDecay }: Omit<Static<typeof SgdSchema>, 'kind'>): Optimizer {
  if (momentum === 0) {
    if (nesterov) throw optionError('/optimizer/nesterov', 'got true without momentum, expected a momentum above 0')
    return plainSgd(weightDecay)
  }
  return {
    name: 'sgd',
    slots: ['momentum'],
    emit(emit, { parameters, gradients, learningRate, slots: [slot] }) {
      const decayed = weightDecay === 0 ? gradients : emit.op('Add', [gradients, emit.op('Mul', [parameters, emit.scalar(weightDecay)])])
      // Nesterov's step is g + μb, and μb is all that the next b needs: that product is kept, not b.
      const kept = nesterov
        ? emit.op('Mul', [emit.op('Add', [slot as string, decayed]), emit.scalar(momentum)])
        : emit.op('Add', [emit.op('Mul', [slot as string, emit.scalar(momentum)]), decayed])
      const direction = nesterov ? emit.op('Add', [kept, decayed]) : kept
      return { parameters: emit.op('Sub', [parameters, emit.op('Mul', [direction, learningRate])]), slots: [kept] }
    },
  }
}

function plainSgd(weightDecay: number): Optimizer {
  return {
    name: 'sgd',
    slots: [],
    emit(emit, { parameters, gradients, learningRate }) {
      // p − lr·(g + λp) = (1 − lr·λ)·p − lr·g
      const rest = weightDecay === 0 ? undefined : emit.op('Sub', [emit.scalar(1), emit.op('Mul', [learningRate, emit.scalar(weightDecay)])])
      const shrunk = rest === undefined ? parameters : emit.op('Mul', [parameters, rest])
      return { parameters: emit.op('Sub', [shrunk, emit.op('Mul', [gradients, learningRate])]), slots: [] }
    },
  }
}
