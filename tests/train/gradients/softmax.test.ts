import { describe, it } from 'vitest'
import { node } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { int64s, noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'
import { draws } from './draws.js'

const seeds = Array.from({ length: 20 }, (_, index) => index + 1)

const double = (tensor: Tensor): Tensor => ({ ...tensor, dtype: 'float64', data: Float64Array.from(tensor.data as Float32Array, (value) => 3 * value) })

describe.each(['Softmax', 'LogSoftmax'])('%s', (opType) => {
  it.each(seeds)('configuration %i', async (seed) => {
    const { int, chance } = draws(seed)
    const dims = Array.from({ length: int(1, 4) }, () => int(1, 5))
    const attributes = chance() ? { axis: int(-dims.length, dims.length - 1) } : {}
    await checkGradients({ nodes: [node(opType, ['x'], ['y'], { attributes })], feeds: { x: double(noise(dims, seed)) } })
  })
})

describe('SoftmaxCrossEntropyLoss', () => {
  const cases = [undefined, 0, 2, -1, -100].flatMap((ignored) =>
    ['mean', 'sum', 'none'].flatMap((reduction) => [false, true].map((second) => ({ ignored, reduction, second }))),
  )
  it.each(cases.map((one, index) => ({ ...one, seed: index + 1 })))('of %j', async ({ ignored, reduction, second, seed }) => {
    const { int, chance } = draws(seed)
    const classes = int(3, 5)
    const dims = [int(1, 4), classes, ...Array.from({ length: int(0, 2) }, () => int(1, 3))]
    const labelDims = dims.filter((_, axis) => axis !== 1)
    const count = labelDims.reduce((product, dim) => product * dim, 1)
    // The first label counts, so that the mean is over something.
    const labels = Array.from({ length: count }, (_, index) => (ignored !== undefined && index > 0 && chance() ? ignored : int(ignored === 0 ? 1 : 0, 1)))
    const weighted = chance()
    const weights: Tensor = { dtype: 'float32', dims: [classes], data: Float32Array.from({ length: classes }, (_, index) => 0.5 + 0.3 * index) }
    const inputs = ['scores', 'labels', ...(weighted ? ['weights'] : [])]
    const attributes = { reduction, ...(ignored === undefined ? {} : { ignore_index: ignored }) }
    await checkGradients({
      nodes: [node('SoftmaxCrossEntropyLoss', inputs, second ? ['loss', 'log_prob'] : ['loss'], { attributes })],
      feeds: { scores: noise(dims, seed), labels: int64s(labelDims, labels), ...(weighted ? { weights } : {}) },
      wanted: ['scores'],
    })
  })

  it('of labels of int32', async () => {
    const labels: Tensor = { dtype: 'int32', dims: [3], data: Int32Array.from([0, -100, 1]) }
    const nodes = [node('SoftmaxCrossEntropyLoss', ['scores', 'labels'], ['loss'], { attributes: { ignore_index: -100 } })]
    await checkGradients({ nodes, feeds: { scores: noise([3, 4], 1), labels } })
  })

  it('of log-probabilities alone', async () => {
    const feeds = { scores: noise([3, 4], 1), labels: int64s([3], [0, 3, 1]) }
    await checkGradients({ nodes: [node('SoftmaxCrossEntropyLoss', ['scores', 'labels'], ['loss', 'log_prob'])], feeds, outputs: ['log_prob'] })
  })
})
