// Codes whose errors make up for each other on real inputs: Frantar et al., "GPTQ: Accurate Post-Training
// Quantization for Generative Pre-trained Transformers" (2022, https://arxiv.org/abs/2210.17323). Column by column, what
// rounding does to a product is passed on to the weights not yet rounded, as the inputs' second moments say.
import { blockParams, blocksOf, codeOf, emptyCodes, type BlockCodes, type BlockFormat } from './blocks.js'

/** Share of the mean diagonal that is added to it: inputs that move together leave the moments near singular. */
const DAMPING = 0.01

/**
 * The upper triangular U with U^T · U = H^-1, of second moments H = X^T · X, [width, width] row by row.
 * In place: `moments` becomes U, zero below the diagonal. Through H = R · R^T with R upper triangular, U = R^-1.
 */
export function inverseFactor(moments: Float64Array, width: number): Float64Array {
  damp(moments, width)
  for (let j = width - 1; j >= 0; j--) {
    const rowJ = j * width
    const pivot = Math.sqrt(moments[rowJ + j]! - dot(moments, rowJ + j + 1, rowJ + j + 1, width - 1 - j))
    for (let i = 0; i < j; i++) {
      const rowI = i * width
      moments[rowI + j] = (moments[rowI + j]! - dot(moments, rowI + j + 1, rowJ + j + 1, width - 1 - j)) / pivot
    }
    moments[rowJ + j] = pivot
    moments.fill(0, rowJ, rowJ + j)
  }
  // Rows of the inverse from the last to the first: each needs its own row of R and the inverse's rows below.
  const row = new Float64Array(width)
  for (let i = width - 1; i >= 0; i--) {
    row.fill(0)
    row[i] = 1
    for (let k = i + 1; k < width; k++) {
      const factor = moments[i * width + k]!
      if (factor !== 0) for (let j = k; j < width; j++) row[j]! -= factor * moments[k * width + j]!
    }
    const pivot = moments[i * width + i]!
    for (let j = i; j < width; j++) moments[i * width + j] = row[j]! / pivot
  }
  return moments
}

/** Adds to the diagonal; inputs that are always zero get a moment, so that their weights are simply rounded. */
function damp(moments: Float64Array, width: number): void {
  let sum = 0
  for (let i = 0; i < width; i++) sum += moments[i * width + i]!
  const added = sum > 0 ? (DAMPING * sum) / width : 1
  for (let i = 0; i < width; i++) moments[i * width + i]! += added
}

function dot(values: Float64Array, a: number, b: number, count: number): number {
  let sum = 0
  for (let k = 0; k < count; k++) sum += values[a + k]! * values[b + k]!
  return sum
}

/** Codes of [rows, width] weights, by the factor that inverseFactor makes of their inputs' moments. */
export function compensatedCodes(
  values: Float32Array,
  { rows, width, factor }: { rows: number; width: number; factor: Float64Array },
  format: BlockFormat,
): BlockCodes {
  const made = emptyCodes(rows, width, format)
  const blocks = blocksOf(width, format)
  const left = Float64Array.from(values)
  const errors = new Float64Array(format.block)
  // Block by block over all rows, so that the rows of the factor that a block needs stay in cache.
  for (let block = 0; block < blocks; block++) {
    const first = block * format.block
    const end = Math.min(first + format.block, width)
    for (let row = 0; row < rows; row++) {
      const at = row * width
      const params = blockParams(left, at + first, at + end, format)
      made.scales[row * blocks + block] = params.scale
      made.zeros[row * blocks + block] = params.zero
      for (let j = first; j < end; j++) {
        const code = codeOf(left[at + j]!, params, format.bits)
        made.codes[at + j] = code
        const error = (left[at + j]! - params.scale * (code - params.zero)) / factor[j * width + j]!
        errors[j - first] = error
        for (let k = j + 1; k < end; k++) left[at + k]! -= error * factor[j * width + k]!
      }
      for (let j = first; j < end; j++) {
        const error = errors[j - first]!
        for (let k = end; k < width; k++) left[at + k]! -= error * factor[j * width + k]!
      }
    }
  }
  return made
}
