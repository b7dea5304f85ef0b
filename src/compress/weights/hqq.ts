// Half-quadratic refinement of a block's scale and zero point, without data: Badri and Shaji, "Half-Quadratic
// Quantization of Large Machine Learning Models" (2023, https://mobiusml.github.io/hqq_blog/). Few weights far off are
// better than many a little off, so errors count by their square root. In turns, what counts as an outlier is set
// aside, and the parameters are fitted to the rest. The scale is fitted too, by least squares, because zero points are whole here.
import { clamp, roundHalfEven } from '../quantize/affine.js'
import { codeOf, type BlockFormat, type BlockParams } from './blocks.js'

const ITERATIONS = 10
/** Weight of the quadratic penalty, in steps, and by what it grows an iteration. */
const [PENALTY, GROWTH] = [10, 1.05]

/** Parameters with the least error by square roots, among those whose squared error is not above that of `rounded`. */
export function refineBlock(values: Float32Array, [from, to]: readonly [number, number], rounded: BlockParams, { bits, symmetric }: BlockFormat): BlockParams {
  let best = rounded
  const limit = errorOf(values, from, to, rounded, bits)
  let least = limit.roots
  let { scale, zero } = rounded
  for (let iteration = 0, penalty = PENALTY; iteration < ITERATIONS; iteration++, penalty *= GROWTH) {
    let shifts = 0
    const targets: number[] = []
    const codes: number[] = []
    for (let i = from; i < to; i++) {
      const value = values[i]!
      const code = codeOf(value, { scale, zero }, bits)
      const error = value / scale - (code - zero)
      const outlier = Math.max(0, Math.abs(error) - 1 / (penalty * Math.sqrt(Math.abs(error) + Number.EPSILON)))
      const target = value - Math.sign(error) * outlier * scale
      targets.push(target)
      codes.push(code)
      shifts += code - target / scale
    }
    if (!symmetric) zero = clamp(roundHalfEven(shifts / codes.length), 0, 2 ** bits - 1)
    let [products, squares] = [0, 0]
    codes.forEach((code, i) => {
      products += targets[i]! * (code - zero)
      squares += (code - zero) ** 2
    })
    const fitted = Math.fround(products / squares)
    // Codes that are all zero, or fit a scale of the other sign, say nothing.
    if (!(fitted * rounded.scale > 0) || !Number.isFinite(1 / fitted)) break
    scale = fitted
    const { squares: squared, roots } = errorOf(values, from, to, { scale, zero }, bits)
    if (roots < least && squared <= limit.squares) {
      best = { scale, zero }
      least = roots
    }
  }
  return best
}

function errorOf(values: Float32Array, from: number, to: number, params: BlockParams, bits: number): { squares: number; roots: number } {
  let [squares, roots] = [0, 0]
  for (let i = from; i < to; i++) {
    const error = Math.abs(values[i]! - params.scale * (codeOf(values[i]!, params, bits) - params.zero))
    squares += error * error
    roots += Math.sqrt(error)
  }
  return { squares, roots }
}
