// Seeded weights for the networks of this folder: the same seed gives the same model, byte for byte.
import { tensorProto } from '#flyweight/onnx/builder.js'

/**
 * Makes float32 initializers of one seed, bell-shaped around `mean`, in the order asked for.
 * @param {number} seed
 * @returns {(name: string, dims: number[], shape?: { mean?: number, deviation?: number }) => import('#flyweight/onnx/proto.js').TensorProto}
 */
export function randomWeights(seed) {
  let state = (Math.imul(seed, 2654435761) + 1) >>> 0
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  }
  return (name, dims, { mean = 0, deviation = 1 } = {}) => {
    const data = new Float32Array(dims.reduce((product, dim) => product * dim, 1))
    // Three uniforms of variance 1/3 add up to variance 1.
    for (let i = 0; i < data.length; i++) data[i] = mean + deviation * (uniform() + uniform() + uniform())
    return tensorProto(name, 'float32', dims, data)
  }
}
