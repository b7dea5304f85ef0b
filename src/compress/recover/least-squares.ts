// Changes of weights that bring outputs closest to those wanted: ridge regression by its normal equations, in float64.
// Pure. Sums over samples are moments.ts's business.

/** Sums over positions, of one group of a layer; residuals are wanted less present outputs. */
export interface GroupMoments {
  count: number
  /** Inputs, and weights of a row. */
  width: number
  /** Outputs. */
  rows: number
  /** [width, width]: Σ x · xᵀ. */
  squares: Float64Array
  /** [width, rows]: Σ x · residualᵀ. */
  products: Float64Array
  /** [width]: Σ x. */
  inputs: Float64Array
  /** [rows]: Σ residual. */
  residuals: Float64Array
}

export interface Change {
  /** [rows, width]. */
  weights: Float64Array
  /** [rows]; zeros where the layer has no bias. */
  bias: Float64Array
}

export interface SolveOptions {
  /** Whether outputs have a bias to fit; it is not held back. */
  biased: boolean
  /** How much changes are held back: in shares of the inputs' mean square. */
  ridge: number
  /** [rows, width]; where it is zero, the change is zero. */
  weights: Float64Array
}

/** Multiplications that `solve` takes, roughly. */
export function workOf(width: number, weights: Float64Array): number {
  let work = 0
  for (const { free, rows } of patternsOf(weights, width)) work += free.length ** 3 / 6 + rows.length * free.length ** 2
  return work
}

/** Minimises Σ |change · x + bias − residual|² + λ·|change|², λ = ridge · Σ|x − mean|² ÷ width. */
export function solve(moments: GroupMoments, { biased, ridge, weights }: SolveOptions): Change {
  const { count, width, rows, squares, products, inputs, residuals } = moments
  const change: Change = { weights: new Float64Array(rows * width), bias: new Float64Array(rows) }
  // Fitting a bias that is free is fitting what is left of everything when means are gone.
  const share = biased ? 1 / count : 0
  const covariance = (i: number, j: number) => squares[i * width + j]! - inputs[i]! * inputs[j]! * share
  let trace = 0
  for (let i = 0; i < width; i++) trace += covariance(i, i)
  const lambda = (ridge * trace) / width
  if (lambda > 0) {
    for (const pattern of patternsOf(weights, width)) {
      const { free } = pattern
      const factor = cholesky(free.length, (i, j) => covariance(free[i]!, free[j]!) + (i === j ? lambda : 0), lambda)
      const right = new Float64Array(free.length)
      for (const row of pattern.rows) {
        for (let i = 0; i < free.length; i++) right[i] = products[free[i]! * rows + row]! - inputs[free[i]!]! * residuals[row]! * share
        substitute(factor, right)
        for (let i = 0; i < free.length; i++) change.weights[row * width + free[i]!] = right[i]!
      }
    }
  }
  if (!biased) return change
  for (let row = 0; row < rows; row++) {
    let sum = residuals[row]!
    for (let i = 0; i < width; i++) sum -= change.weights[row * width + i]! * inputs[i]!
    change.bias[row] = sum / count
  }
  return change
}

interface Pattern {
  /** Weights that may change, ascending. */
  free: Int32Array
  /** Rows whose zeros are at all other places. */
  rows: number[]
}

/** Rows with zeros at the same places share one system. */
function patternsOf(weights: Float64Array, width: number): Pattern[] {
  const patterns = new Map<string, Pattern>()
  for (let row = 0; row < weights.length / width; row++) {
    const free = Int32Array.from({ length: width }, (_, i) => i).filter((i) => weights[row * width + i] !== 0)
    const key = free.length === width ? '' : Buffer.from(free.buffer).toString('latin1')
    const known = patterns.get(key)
    if (known === undefined) patterns.set(key, { free, rows: [row] })
    else known.rows.push(row)
  }
  return [...patterns.values()]
}

/** The lower triangular L, rows packed one after the other, with L · Lᵀ = A. No pivot is let fall below half of `least`. */
function cholesky(size: number, a: (i: number, j: number) => number, least: number): Float64Array {
  const factor = new Float64Array((size * (size + 1)) / 2)
  for (let i = 0; i < size; i++) {
    const rowI = (i * (i + 1)) / 2
    for (let j = 0; j <= i; j++) {
      const rowJ = (j * (j + 1)) / 2
      const sum = a(i, j) - dot(factor, rowI, factor, rowJ, j)
      factor[rowI + j] = i === j ? Math.sqrt(Math.max(sum, least / 2)) : sum / factor[rowJ + j]!
    }
  }
  return factor
}

/** Solves L · Lᵀ · x = right; x in place of it. */
function substitute(factor: Float64Array, right: Float64Array): void {
  const size = right.length
  for (let i = 0; i < size; i++) {
    const row = (i * (i + 1)) / 2
    right[i] = (right[i]! - dot(factor, row, right, 0, i)) / factor[row + i]!
  }
  for (let i = size - 1; i >= 0; i--) {
    const row = (i * (i + 1)) / 2
    const value = right[i]! / factor[row + i]!
    right[i] = value
    for (let k = 0; k < i; k++) right[k]! -= factor[row + k]! * value
  }
}

/** Four sums at a time, which do not wait for each other. */
function dot(a: Float64Array, fromA: number, b: Float64Array, fromB: number, count: number): number {
  let first = 0
  let second = 0
  let third = 0
  let fourth = 0
  let k = 0
  for (; k + 3 < count; k += 4) {
    first += a[fromA + k]! * b[fromB + k]!
    second += a[fromA + k + 1]! * b[fromB + k + 1]!
    third += a[fromA + k + 2]! * b[fromB + k + 2]!
    fourth += a[fromA + k + 3]! * b[fromB + k + 3]!
  }
  for (; k < count; k++) first += a[fromA + k]! * b[fromB + k]!
  return first + second + third + fourth
}
