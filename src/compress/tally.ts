// Sums behind fidelity: what two models' outputs have in common, added up batch by batch. Which models and
// inputs, and what the sums say about a variant, is evaluate.ts's business.
import type { Fidelity, OutputFidelity } from '../measurements.js'
import { fromFloat16Bits } from '../tensor/float16.js'
import type { Tensor } from '../tensor/tensor.js'
import { clamp } from './quantize/affine.js'

/** Signal to noise of outputs that are equal to the last bit; a true infinity would not survive JSON. */
const EXACT_DB = 200
/** How far the sum of a distribution may be from 1, for float16 and rounding. */
const SUM_TOLERANCE = 0.01
/** Least probability in the divergence: a true zero would make it infinite. */
const LEAST_LOG = Math.log(1e-12)

/** One output over all batches. */
export class OutputTally {
  /** False once the variant has a value that is not finite where the source's is. */
  finite = true
  #dot = 0
  #expectedSquares = 0
  #actualSquares = 0
  #noise = 0
  #maxError = 0
  #agreeing = 0
  #divergence = 0
  #positions = 0
  #klOf: Kind

  /** @param scores false for an output whose last axis holds no classes, whatever its rank */
  add(expectedTensor: Tensor, actualTensor: Tensor, scores = true): void {
    const [expected, actual] = [numbers(expectedTensor), numbers(actualTensor)]
    for (let i = 0; i < expected.length; i++) {
      const [want, got] = [expected[i] as number, actual[i] as number]
      if (!Number.isFinite(got) && Number.isFinite(want)) this.finite = false
      if (!Number.isFinite(got) || !Number.isFinite(want)) continue
      const error = Math.abs(want - got)
      this.#dot += want * got
      this.#expectedSquares += want * want
      this.#actualSquares += got * got
      this.#noise += error * error
      if (error > this.#maxError) this.#maxError = error
    }
    const { dims, dtype } = expectedTensor
    const classes = dims.at(-1) ?? 1
    if (!scores || classes < 2 || dims.length < 2 || dims.length > 3) return
    const isFloat = dtype.includes('float')
    if (isFloat) this.#klOf ??= isDistribution(expected, classes) ? 'probabilities' : 'softmax'
    for (let start = 0; start < expected.length; start += classes) {
      this.#positions += 1
      if (argmax(expected, start, classes) === argmax(actual, start, classes)) this.#agreeing += 1
      if (isFloat) this.#divergence += divergence(expected, actual, { start, classes, of: this.#klOf })
    }
  }

  result(): OutputFidelity {
    const norms = Math.sqrt(this.#expectedSquares * this.#actualSquares)
    return {
      ...(this.#positions === 0 ? {} : { top1: this.#agreeing / this.#positions }),
      // Rounding must not take 1 from equal outputs, nor push others past it.
      cosine: this.#noise === 0 ? 1 : norms === 0 ? 0 : Math.min(1, this.#dot / norms),
      sqnrDb: this.#noise === 0 ? EXACT_DB : clamp(10 * Math.log10(this.#expectedSquares / this.#noise), -EXACT_DB, EXACT_DB),
      maxError: this.#maxError,
      ...(this.#klOf === undefined ? {} : { kl: Math.max(0, this.#divergence / this.#positions), klOf: this.#klOf }),
    }
  }
}

/** Correct labels, one label a row, of the first output that has one row of scores a label. */
export class LabelTally {
  readonly #labels: ArrayLike<number> | undefined
  #output: string | undefined
  #unused: string | undefined
  #source = 0
  #variant = 0
  #rows = 0

  constructor(labels: ArrayLike<number> | undefined) {
    this.#labels = labels
  }

  add(expected: Readonly<Record<string, Tensor>>, actual: Readonly<Record<string, Tensor>>, { from, count }: { from: number; count: number }): void {
    if (this.#labels === undefined) return
    const name = (this.#output ??= this.#choose(this.#labels, expected, count))
    if (name === undefined) return
    const [source, variant] = [numbers(expected[name] as Tensor), numbers(actual[name] as Tensor)]
    const classes = (expected[name] as Tensor).dims[1] as number
    for (let row = 0; row < count; row++) {
      const label = this.#labels[from + row]
      this.#source += Number(argmax(source, row * classes, classes) === label)
      this.#variant += Number(argmax(variant, row * classes, classes) === label)
      this.#rows += 1
    }
  }

  /** Why there is no accuracy although there are labels. */
  result(): Pick<Fidelity, 'accuracy' | 'labelsUnused'> {
    if (this.#rows > 0) return { accuracy: { source: this.#source / this.#rows, variant: this.#variant / this.#rows } }
    return this.#unused === undefined ? {} : { labelsUnused: this.#unused }
  }

  #choose(labels: ArrayLike<number>, outputs: Readonly<Record<string, Tensor>>, count: number): string | undefined {
    if (this.#unused !== undefined) return undefined
    const found = Object.entries(outputs).find(([, { dims, dtype }]) => dims.length === 2 && dims[0] === count && dims[1]! > 1 && dtype.includes('float'))
    if (found === undefined) {
      const shapes = Object.entries(outputs).map(([name, { dims }]) => `"${name}" is [${dims.join(', ')}]`)
      this.#unused = `a label is a class a row, which takes an output [rows, classes]; for ${count} rows ${shapes.join(', ')}`
      return undefined
    }
    const [name, { dims }] = found
    const odd = Array.from(labels).find((label) => label < 0 || label >= dims[1]!)
    if (odd === undefined) return name
    this.#unused = `a label is ${odd}, but output "${name}" has classes 0 to ${dims[1]! - 1}`
    return undefined
  }
}

function isDistribution(values: ArrayLike<number>, classes: number): boolean {
  for (let start = 0; start < values.length; start += classes) {
    let sum = 0
    for (let i = start; i < start + classes; i++) {
      if (!((values[i] as number) >= 0)) return false
      sum += values[i] as number
    }
    if (Math.abs(sum - 1) > SUM_TOLERANCE) return false
  }
  return true
}

type Kind = 'probabilities' | 'softmax' | undefined

/**
 * Kullback-Leibler divergence in nats of the variant's distribution from the source's at one position; 0 where either is
 * not finite. Over thousands of classes this is much of what a comparison costs: no arrays in between.
 */
function divergence(source: ArrayLike<number>, variant: ArrayLike<number>, { start, classes, of }: { start: number; classes: number; of: Kind }): number {
  const [sourceTotal, variantTotal] = [logTotal(source, start, classes, of), logTotal(variant, start, classes, of)]
  let sum = 0
  for (let i = start; i < start + classes; i++) {
    const log = logProbability(source[i] as number, sourceTotal, of)
    sum += Math.exp(log) * (log - logProbability(variant[i] as number, variantTotal, of))
  }
  return Number.isFinite(sum) ? sum : 0
}

/** Logarithm of what exponentials are divided by in a softmax. */
function logTotal(values: ArrayLike<number>, start: number, classes: number, of: Kind): number {
  if (of === 'probabilities') return 0
  let [most, total] = [-Infinity, 0]
  for (let i = start; i < start + classes; i++) most = Math.max(most, values[i] as number)
  for (let i = start; i < start + classes; i++) total += Math.exp((values[i] as number) - most)
  return most + Math.log(total)
}

function logProbability(value: number, total: number, of: Kind): number {
  return Math.max(LEAST_LOG, of === 'probabilities' ? Math.log(Math.max(0, value)) : value - total)
}

function argmax(values: ArrayLike<number>, start: number, count: number): number {
  let best = start
  for (let i = start + 1; i < start + count; i++) if ((values[i] as number) > (values[best] as number)) best = i
  return best - start
}

/** Values as plain numbers; strings compare by equality only and are left out. */
function numbers({ dtype, data }: Tensor): ArrayLike<number> {
  if (Array.isArray(data)) return []
  if (dtype === 'float16') return Float32Array.from(data as Uint16Array, fromFloat16Bits)
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return Float64Array.from(data as BigInt64Array, Number)
  return data
}
