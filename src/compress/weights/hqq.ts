// Half-quadratic refinement of a block's scale and zero point, without data: Badri and Shaji, "Half-Quadratic
// Quantization of Large Machine Learning Models" (2023, https://mobiusml.github.io/hqq_blog/). Few weights far off are
// better than many a little off, so errors count by their square root. In turns, what counts as an outlier is set
// aside, and the parameters are fitted to the rest. The scale is fitted too, by least squares, because zero points are whole here.
import { clamp, roundHalfEven } from '../quantize/affine.js'
import type { BlockFormat, BlockParams } from './blocks.js'

const ITERATIONS = 10
/** Weight of the quadratic penalty, in steps, and by what it grows an iteration. */
const [PENALTY, GROWTH] = [10, 1.05]

/** Parameters with the least error by square roots, among those whose squared error is not above that of `rounded`. */
export function refineBlock(values: Float32Array, [from, to]: readonly [number, number], rounded: BlockParams, { bits, symmetric }: BlockFormat): BlockParams {
  const [targets, codes] = [new Float64Array(to - from), new Float64Array(to - from)]
  const top = 2 ** bits - 1
  let best = rounded
  let [least, limit] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
  let { scale, zero } = rounded
  for (let iteration = 0, penalty = PENALTY; ; iteration++, penalty *= GROWTH) {
    let squares = 0
    let roots = 0
    let shifts = 0
    for (let i = from; i < to; i++) {
      const value = values[i]!
      const code = clamp(roundHalfEven(value / scale) + zero, 0, top)
      const off = value - scale * (code - zero)
      squares += off * off
      roots += Math.sqrt(Math.abs(off))
      const steps = Math.abs(off / scale)
      const outlier = Math.max(0, steps - 1 / (penalty * Math.sqrt(steps + Number.EPSILON)))
      const target = value - Math.sign(off) * outlier * Math.abs(scale)
      targets[i - from] = target
      codes[i - from] = code
      shifts += code - target / scale
    }
    // The first round tells how good plain rounding is.
    if (iteration === 0) limit = squares
    if (roots < least && squares <= limit) {
      best = { scale, zero }
      least = roots
    }
    if (iteration === ITERATIONS) return best
    if (!symmetric) zero = clamp(roundHalfEven(shifts / codes.length), 0, top)
    let products = 0
    let norm = 0
    for (let i = 0; i < codes.length; i++) {
      const steps = codes[i]! - zero
      products += targets[i]! * steps
      norm += steps * steps
    }
    const fitted = Math.fround(products / norm)
    // Codes that are all zero, or fit a scale of the other sign, say nothing.
    if (!(fitted * rounded.scale > 0) || !Number.isFinite(1 / fitted)) return best
    scale = fitted
  }
}
