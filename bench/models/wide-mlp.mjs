// A feed-forward network as wide as those of large transformers, with random weights: all of its time is in products of
// matrices.
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import { randomWeights } from './random-weights.mjs'

/**
 * Input `x` and output `y`, float32 [batch, width]; blocks of width → inner → width with what goes around them.
 * @param {{ blocks?: number, width?: number, inner?: number, seed?: number }} [size]
 */
export function buildWideMlp({ blocks = 4, width = 1024, inner = 4096, seed = 1 } = {}) {
  const weights = randomWeights(seed)
  const [nodes, initializers] = [[], []]
  const store = (name, dims, deviation) => {
    initializers.push(weights(name, dims, { deviation }))
    return name
  }
  const apply = (opType, inputs, output) => {
    nodes.push(node(opType, inputs, [output]))
    return output
  }
  let x = 'x'
  for (let block = 0; block < blocks; block++) {
    const at = (name) => `block.${block}.${name}`
    const linear = (input, name, from, to) => {
      const product = apply('MatMul', [input, store(`${name}.weight`, [from, to], 1 / Math.sqrt(from))], `${name}.product`)
      return apply('Add', [product, store(`${name}.bias`, [to], 0.05)], `${name}.linear`)
    }
    const active = apply('Relu', [linear(x, at('first'), width, inner)], at('active'))
    x = apply('Add', [linear(active, at('second'), inner, width), x], block === blocks - 1 ? 'y' : at('sum'))
  }
  const info = (name) => valueInfo(name, 'float32', ['batch', width])
  return model({ name: 'wide-mlp', inputs: [info('x')], outputs: [info('y')], nodes, initializers })
}
