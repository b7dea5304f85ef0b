import { describe, expect, it } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { dtypes, type Tensor } from '#flyweight/tensor/tensor.js'
import { run } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'
import { gradientsOf } from '../gradients-of.js'
import { draws } from './draws.js'
import { float32, seeds, someDims, uniform } from './inputs.js'

describe('Cast', () => {
  it.each(seeds)('configuration %i', async (seed) => {
    const draw = draws(seed)
    const [from, to] = [draw.pick(['float32', 'float64'] as const), draw.pick(['float32', 'float64', 'float16'] as const)]
    const x = uniform(someDims(draw), seed)
    // Half precision rounds: steps are long, and back in single precision the sums are not.
    const nodes = [node('Cast', ['x'], ['c'], { attributes: { to: dtypes[to].onnx } }), node('Cast', ['c'], ['y'], { attributes: { to: dtypes[from].onnx } })]
    await checkGradients({ nodes, feeds: { x: from === 'float32' ? float32(x) : x }, step: 0.5, tolerance: to === 'float16' ? 5e-3 : 1e-5 })
  })

  it('to integers and back has no gradient', async () => {
    const nodes = [
      node('Cast', ['x'], ['c'], { attributes: { to: dtypes.int32.onnx } }),
      node('Cast', ['c'], ['y'], { attributes: { to: dtypes.float64.onnx } }),
    ]
    expect(await gradientsOf(nodes, { x: uniform([3], 1) })).toEqual({ x: [0, 0, 0] })
  })
})

describe('Dropout', () => {
  const training = (on: boolean) => tensorProto('training', 'bool', [], [Number(on)])

  it.each(seeds)('in inference, configuration %i', async (seed) => {
    const draw = draws(seed)
    const ratio = tensorProto('ratio', draw.pick(['float32', 'float64']), [], [draw.int(0, 9) / 10])
    const inputs = draw.pick([['x'], ['x', 'ratio'], ['x', 'ratio', 'training'], ['x', '', 'training']])
    const nodes = [node('Dropout', inputs, draw.chance() ? ['y'] : ['y', 'mask'])]
    await checkGradients({ nodes, feeds: { x: uniform(someDims(draw), seed) }, constants: [ratio, training(false)], outputs: ['y'] })
  })

  it.each(seeds)('in training, configuration %i', async (seed) => {
    const draw = draws(seed)
    const dims = [draw.int(1, 20), draw.int(1, 20)]
    const x: Tensor = { dtype: 'float32', dims, data: new Float32Array((dims[0] as number) * (dims[1] as number)).fill(1) }
    const inputs = ['x', draw.chance() ? 'ratio' : '', 'training']
    const nodes = [node('Dropout', inputs, ['y', 'mask'], { attributes: { seed } })]
    const constants = [tensorProto('ratio', draw.pick(['float32', 'float64']), [], [draw.int(0, 9) / 10]), training(true)]
    // Linear, so that what becomes of ones is the gradient of the sum; a node's seed makes every session's first mask the same.
    const forward = model({ inputs: [valueInfo('x', 'float32', dims)], outputs: [valueInfo('y', 'float32', dims)], nodes, initializers: constants })
    const { y } = await run(forward, { x })
    expect((await gradientsOf(nodes, { x }, constants)).x).toEqual(Array.from(y?.data as Float32Array))
  })

  it('in training without its mask is refused', async () => {
    const nodes = [node('Dropout', ['x', '', 'training'], ['y'])]
    await expect(gradientsOf(nodes, { x: uniform([3], 1) }, [training(true)])).rejects.toThrow(
      'Dropout "y" cannot be trained through: in training mode it needs its second output, the mask',
    )
  })
})
