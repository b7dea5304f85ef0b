// Gradients of whole networks against differences: operators of every kind together, tensors with several readers,
// parameters used twice. Small enough that single precision is precise enough.
import { describe, it } from 'vitest'
import { checkGradients } from '../gradient-check.js'
import { convolutional, Network, perceptron, transformerBlock, visionTransformer } from './networks.js'

async function check({ emit, feeds }: Network): Promise<void> {
  await checkGradients({ nodes: emit.nodes, feeds, constants: emit.initializers, step: 2e-3, tolerance: 5e-3 })
}

describe('gradients of', () => {
  it('a perceptron', () => check(perceptron()))

  it('a convolutional network with batch normalisation', () => check(convolutional()))

  it.each(['Relu', 'Softplus'])('a residual block with %s', async (activation) => {
    const net = new Network(10)
    const x = net.input('x', [2, 2, 6, 6])
    const first = net.op(activation, [net.batchNorm(net.conv(x, 'conv1', [4, 2, 3, 3], { strides: [2, 2] }), 'bn1', 4)])
    const second = net.batchNorm(net.conv(first, 'conv2', [4, 4, 3, 3]), 'bn2', 4)
    const shortcut = net.batchNorm(net.conv(x, 'shortcut', [4, 2, 1, 1], { strides: [2, 2] }), 'bn3', 4)
    net.op(activation, [net.op('Add', [second, shortcut])])
    await check(net)
  })

  it('an inverted residual block with squeeze and excitation', async () => {
    const net = new Network(4)
    const x = net.input('x', [2, 3, 5, 5])
    const expanded = net.op('HardSwish', [net.batchNorm(net.conv(x, 'expand', [6, 3, 1, 1]), 'bn1', 6)])
    const filtered = net.op('HardSwish', [net.batchNorm(net.conv(expanded, 'depthwise', [6, 1, 3, 3], { group: 6 }), 'bn2', 6)])
    const squeezed = net.op('Relu', [net.conv(net.op('GlobalAveragePool', [filtered]), 'squeeze', [4, 6, 1, 1])])
    const gate = net.op('HardSigmoid', [net.conv(squeezed, 'excite', [6, 4, 1, 1])], { alpha: { float: 1 / 6 } })
    const projected = net.batchNorm(net.conv(net.op('Mul', [filtered, gate]), 'project', [3, 6, 1, 1]), 'bn3', 3)
    net.op('Add', [x, projected])
    await check(net)
  })

  it('a vision transformer', () => check(visionTransformer()))

  it('a language model whose embedding is its head', async () => {
    const net = new Network(6)
    const [batch, length, width, words] = [2, 4, 6, 7]
    const table = net.input('embedding', [words, width])
    const tokens = net.integers('tokens', [batch, length], [3, 1, 3, 0, 6, 2, 1, 1])
    const embedded = net.op('Add', [net.op('Gather', [table, tokens], { axis: 0 }), net.input('positions', [length, width])])
    const allowed = Array.from({ length: length * length }, (_, at) => Number(at % length <= Math.floor(at / length)))
    const mask = net.emit.tensor('bool', [1, 1, length, length], allowed)
    const encoded = net.layerNorm(transformerBlock(net, embedded, { batch, length, heads: 3, width }, mask), 'norm', width)
    const scores = net.op('MatMul', [net.reshape(encoded, [batch * length, width]), net.op('Transpose', [table], { perm: [1, 0] })])
    net.crossEntropy(scores, [1, 3, 0, 5, 2, 1, 1, 4])
    await check(net)
  })
})
