// The preset int8: which recipe a model gets, and why.
import { describe, expect, it } from 'vitest'
import { choosePreset } from '#flyweight/compress/choose.js'
import { node } from '#flyweight/onnx/builder.js'
import { network, weights } from './compressing.js'

const conv = network(['c', 'h', 'w'], ['n', 4, 'h', 'w'], [node('Conv', ['x', 'w'], ['y'])], [weights('w', [4, 3, 1, 1])])
const mlp = network([8], ['n', 4], [node('MatMul', ['x', 'w'], ['h']), node('Relu', ['h'], ['y'])], [weights('w', [8, 4])])

describe('preset int8', () => {
  it('is static for convolutions with samples', () => {
    const { recipe, because } = choosePreset('int8', conv, { hasSamples: true })
    expect(recipe.map(({ pass }) => pass)).toEqual(['int8-static'])
    expect(because).toContain('1 convolutions and 0 products')
    expect(because).toContain('samples to calibrate on')
  })

  it('is dynamic for convolutions without samples, and says what is missing', () => {
    const { recipe, because } = choosePreset('int8', conv, { hasSamples: false })
    expect(recipe.map(({ pass }) => pass)).toEqual(['int8-dynamic'])
    expect(because).toContain('no sample inputs')
  })

  it('is dynamic for products, samples or not', () => {
    for (const hasSamples of [true, false]) {
      const { recipe, because } = choosePreset('int8', mlp, { hasSamples })
      expect(recipe.map(({ pass }) => pass)).toEqual(['int8-dynamic'])
      expect(because).toContain('1 products with constant weights')
    }
  })

  it('is dynamic for a transformer behind one small convolution', () => {
    const patches = [node('Conv', ['x', 'c'], ['p']), node('MatMul', ['p', 'w'], ['y'])]
    const transformer = network(['k', 'h', 64], ['n', 4, 'h', 64], patches, [weights('c', [4, 3, 1, 1]), weights('w', [64, 64])])
    const { recipe, because } = choosePreset('int8', transformer, { hasSamples: true })
    expect(recipe.map(({ pass }) => pass)).toEqual(['int8-dynamic'])
    expect(because).toContain('0.3 % of the weights are in convolutions')
  })

  it('does not count products of two computed tensors', () => {
    const attention = network([8], ['n', 'n'], [node('Transpose', ['x'], ['t']), node('MatMul', ['x', 't'], ['y'])], [])
    expect(choosePreset('int8', attention, { hasSamples: true }).because).toContain('0 products')
  })
})
