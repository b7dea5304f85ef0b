import { expect, it } from 'vitest'
import { node } from '#flyweight/onnx/builder.js'
import { noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'

it.each([
  ['LSTM', 4],
  ['GRU', 3],
  ['RNN', 1],
] as const)('%s is refused', async (opType, gates) => {
  const feeds = { x: noise([3, 1, 2], 1), w: noise([1, gates * 2, 2], 2), r: noise([1, gates * 2, 2], 3) }
  const nodes = [node(opType, ['x', 'w', 'r'], ['y'], { attributes: { hidden_size: 2 } })]
  await expect(checkGradients({ nodes, feeds })).rejects.toThrow(`${opType} "y" cannot be trained through: recurrent layers have no gradient`)
})
