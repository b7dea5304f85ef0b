// Networks of one kind of coupling between channels each, with random weights, large enough that arithmetic takes
// most of the time: what taking channels out of them saves.
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import { buildTransformer } from './transformer.mjs'
import { randomWeights } from './random-weights.mjs'

const SIDE = 28
const WIDTH = 128
const GROUPS = 4
const CLASSES = 100

/** Blocks from `x` [batch, WIDTH, SIDE, SIDE] to as many channels; `block` builds one of them and gives its output and width. */
function network(kind, block, { blocks = 3, seed = 1 } = {}) {
  const weights = randomWeights(seed)
  const [nodes, initializers] = [[], []]
  const random = (dims, shape) => {
    const name = `w${initializers.length}`
    initializers.push(weights(name, dims, shape))
    return name
  }
  const apply = (opType, inputs, attributes = {}) => {
    const output = `${opType}.${nodes.length}`
    nodes.push(node(opType, inputs, [output], { attributes }))
    return output
  }
  const convolution = (x, from, to, { kernel = 3, group = 1 } = {}) => {
    const pad = (kernel - 1) / 2
    const fanIn = (from / group) * kernel ** 2
    const inputs = [x, random([to, from / group, kernel, kernel], { deviation: Math.sqrt(2 / fanIn) }), random([to], { deviation: 0.1 })]
    return apply('Conv', inputs, { kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], group })
  }
  const relu = (x) => apply('Relu', [x])
  let [x, width] = [relu(convolution('x', 3, WIDTH)), WIDTH]
  for (let i = 0; i < blocks; i++) [x, width] = block({ apply, convolution, relu }, x, width)
  const features = apply('Flatten', [apply('GlobalAveragePool', [x])], { axis: 1 })
  nodes.push(node('MatMul', [features, random([width, CLASSES], { deviation: 1 / Math.sqrt(width) })], ['y']))
  return model({
    name: kind,
    inputs: [valueInfo('x', 'float32', ['batch', 3, SIDE, SIDE])],
    outputs: [valueInfo('y', 'float32', ['batch', CLASSES])],
    nodes,
    initializers,
  })
}

const residual = ({ apply, convolution, relu }, x, width) => [relu(apply('Add', [convolution(relu(convolution(x, width, width)), width, width), x])), width]
const concat = ({ apply, convolution, relu }, x, width) => [apply('Concat', [x, relu(convolution(x, width, WIDTH / 2))], { axis: 1 }), width + WIDTH / 2]
const depthwise = ({ apply, convolution, relu }, x, width) => {
  const wide = relu(convolution(x, width, 4 * width, { kernel: 1 }))
  const each = relu(convolution(wide, 4 * width, 4 * width, { group: 4 * width }))
  return [apply('Add', [convolution(each, 4 * width, width, { kernel: 1 }), x]), width]
}
const grouped = ({ apply, convolution, relu }, x, width) => {
  const wide = relu(convolution(x, width, 2 * width, { kernel: 1 }))
  const each = relu(convolution(wide, 2 * width, 2 * width, { group: GROUPS }))
  return [apply('Add', [convolution(each, 2 * width, width, { kernel: 1 }), x]), width]
}

/** Builders by the coupling that each has. */
export const coupledNetworks = {
  residual: () => network('residual', residual),
  concat: () => network('concat', concat),
  depthwise: () => network('depthwise', depthwise),
  grouped: () => network('grouped', grouped),
  attention: () => buildTransformer({ layers: 2, vocab: 1000 }),
}
