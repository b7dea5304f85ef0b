// ResNet-18 (He et al., "Deep Residual Learning for Image Recognition", 2015) with random weights, its
// BatchNormalization nodes kept, as a framework exports it before anything is folded.
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { randomWeights } from './random-weights.mjs'

/**
 * Input `input`, float32 [batch, 3, size, size]; output `logits`, float32 [batch, classes]. The batch is free.
 * @param {{ classes?: number, seed?: number, size?: number }} [options]
 */
export function buildResnet18({ classes = 1000, seed = 1, size = 224 } = {}) {
  const weights = randomWeights(seed)
  const [nodes, initializers] = [[], []]
  const random = (name, dims, shape) => {
    initializers.push(weights(name, dims, shape))
    return name
  }
  const apply = (opType, inputs, output, attributes = {}) => {
    nodes.push(node(opType, inputs, [output], { name: `/${output}`, attributes }))
    return output
  }
  /** Convolution and normalization; `gain` keeps the sums of the residual blocks from growing. */
  const convolution = (input, name, { from, to, kernel, stride, gain = 1 }) => {
    const pad = (kernel - 1) / 2
    const weight = random(`${name}.weight`, [to, from, kernel, kernel], { deviation: Math.sqrt(2 / (from * kernel ** 2)) })
    const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] }
    apply('Conv', [input, weight], `${name}.conv`, attributes)
    const scale = random(`${name}.norm.weight`, [to], { mean: gain, deviation: 0.1 * gain })
    const shift = random(`${name}.norm.bias`, [to], { deviation: 0.1 })
    const mean = random(`${name}.norm.mean`, [to], { deviation: 0.1 })
    const variance = tensorProto(`${name}.norm.variance`, 'float32', [to], new Float32Array(to).fill(1))
    initializers.push(variance)
    return apply('BatchNormalization', [`${name}.conv`, scale, shift, mean, variance.name], `${name}.norm`, { epsilon: { float: 1e-5 } })
  }

  let x = apply('Relu', [convolution('input', 'stem', { from: 3, to: 64, kernel: 7, stride: 2 })], 'stem')
  x = apply('MaxPool', [x], 'stem.pool', { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] })
  let from = 64
  for (const [stage, to] of [64, 128, 256, 512].entries()) {
    for (const block of [0, 1]) {
      const name = `stage${stage + 1}.${block}`
      const stride = stage > 0 && block === 0 ? 2 : 1
      const inner = apply('Relu', [convolution(x, `${name}.first`, { from, to, kernel: 3, stride })], `${name}.inner`)
      const residual = convolution(inner, `${name}.second`, { from: to, to, kernel: 3, stride: 1, gain: 0.3 })
      const shortcut = stride === 1 ? x : convolution(x, `${name}.shortcut`, { from, to, kernel: 1, stride, gain: 0.7 })
      apply('Add', [residual, shortcut], `${name}.sum`)
      x = apply('Relu', [`${name}.sum`], name)
      from = to
    }
  }
  apply('GlobalAveragePool', [x], 'pool')
  apply('Flatten', ['pool'], 'features', { axis: 1 })
  const classifier = [
    random('classifier.weight', [classes, from], { deviation: 1 / Math.sqrt(from) }),
    random('classifier.bias', [classes], { deviation: 0.05 }),
  ]
  apply('Gemm', ['features', ...classifier], 'logits', { transB: 1 })

  return model({
    name: 'resnet18',
    inputs: [valueInfo('input', 'float32', ['batch', 3, size, size])],
    outputs: [valueInfo('logits', 'float32', ['batch', classes])],
    nodes,
    initializers,
  })
}
