// Fidelity: how close a variant's outputs are to the source model's on sample inputs. Streams: one batch
// of both models' outputs is in memory at a time.
import type { Fidelity, OutputFidelity } from '../measurements.js'
import { openSession, type Session } from '../runtime/session.js'
import { fromFloat16Bits } from '../tensor/float16.js'
import type { Tensor } from '../tensor/tensor.js'
import { clamp } from './quantize/affine.js'
import { batchesOf, type Samples } from './samples.js'

export interface EvaluateOptions {
  sourceFile: string
  variantFile: string
  samples: Samples
  /** True when the samples are noise, for want of real inputs. */
  synthetic: boolean
  /** Rows a run: 1 where the batch dimension is fixed. */
  batch: number
  device: string
  threads: number
  onProgress?: (fraction: number) => void
  signal?: AbortSignal | undefined
}

/** Signal to noise of outputs that are equal to the last bit; a true infinity would not survive JSON. */
const EXACT_DB = 200
/** Rows looked at; more would tell little and take time. */
const MOST_ROWS = 512

/** Compares both models on the samples. `finite` is whether every value of the variant was. */
export async function evaluate(options: EvaluateOptions): Promise<{ fidelity: Fidelity; finite: boolean }> {
  const { samples, synthetic, batch, device, threads, signal } = options
  const source = await openSession(options.sourceFile, { device, threads })
  let variant: Session | undefined
  try {
    variant = await openSession(options.variantFile, { device, threads })
    const tallies = new Map<string, Tally>(source.outputs.map(({ name }) => [name, new Tally()]))
    const labelled = new LabelTally(samples.labels)
    let rows = 0
    for (const { from, count, feeds } of batchesOf(samples, batch, MOST_ROWS)) {
      signal?.throwIfAborted()
      const [expected, actual] = [await source.run(feeds), await variant.run(feeds)]
      for (const [name, tally] of tallies) tally.add(expected[name] as Tensor, actual[name] as Tensor)
      const [first] = source.outputs
      if (first !== undefined) labelled.add(expected[first.name] as Tensor, actual[first.name] as Tensor, from)
      rows += count
      options.onProgress?.(rows / Math.min(samples.rows, MOST_ROWS))
    }
    const outputs = Object.fromEntries([...tallies].map(([name, tally]) => [name, tally.result()]))
    const accuracy = labelled.result()
    return {
      fidelity: { ...score(outputs, accuracy), samples: rows, synthetic, outputs, ...(accuracy === undefined ? {} : { accuracy }) },
      finite: [...tallies.values()].every(({ finite }) => finite),
    }
  } finally {
    await source.release()
    await variant?.release()
  }
}

function score(outputs: Readonly<Record<string, OutputFidelity>>, accuracy: Fidelity['accuracy']): Pick<Fidelity, 'score' | 'definition'> {
  if (accuracy !== undefined && accuracy.source > 0) {
    return { score: Math.min(1, accuracy.variant / accuracy.source), definition: 'share of correct labels relative to the source model, at most 1' }
  }
  const scores = Object.values(outputs).map(({ top1, cosine }) => top1 ?? Math.max(0, cosine))
  return {
    score: scores.length === 0 ? 0 : Math.min(...scores),
    definition:
      'lowest over outputs of: share of equal argmaxes over the last axis where the output is a distribution or scores (rank 2 or 3), else cosine similarity',
  }
}

/** Sums over all batches of one output. */
class Tally {
  finite = true
  #dot = 0
  #expectedSquares = 0
  #actualSquares = 0
  #noise = 0
  #maxError = 0
  #agreeing = 0
  #rows = 0

  add(expectedTensor: Tensor, actualTensor: Tensor): void {
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
    const classes = expectedTensor.dims.at(-1) ?? 1
    if (classes < 2 || expectedTensor.dims.length < 2 || expectedTensor.dims.length > 3) return
    for (let start = 0; start < expected.length; start += classes) {
      this.#rows += 1
      if (argmax(expected, start, classes) === argmax(actual, start, classes)) this.#agreeing += 1
    }
  }

  result(): OutputFidelity {
    const norms = Math.sqrt(this.#expectedSquares * this.#actualSquares)
    return {
      ...(this.#rows === 0 ? {} : { top1: this.#agreeing / this.#rows }),
      // Rounding must not take 1 from equal outputs, nor push others past it.
      cosine: this.#noise === 0 ? 1 : norms === 0 ? 0 : Math.min(1, this.#dot / norms),
      sqnrDb: this.#noise === 0 ? EXACT_DB : clamp(10 * Math.log10(this.#expectedSquares / this.#noise), -EXACT_DB, EXACT_DB),
      maxError: this.#maxError,
    }
  }
}

/** Correct labels of the first output, one label a row. */
class LabelTally {
  readonly #labels: ArrayLike<number> | undefined
  #source = 0
  #variant = 0
  #rows = 0

  constructor(labels: ArrayLike<number> | undefined) {
    this.#labels = labels
  }

  add(expected: Tensor, actual: Tensor, from: number): void {
    const [rows = 0, classes = 0] = expected.dims
    if (this.#labels === undefined || expected.dims.length !== 2) return
    const [source, variant] = [numbers(expected), numbers(actual)]
    for (let row = 0; row < rows; row++) {
      const label = Number(this.#labels[from + row])
      this.#source += Number(argmax(source, row * classes, classes) === label)
      this.#variant += Number(argmax(variant, row * classes, classes) === label)
      this.#rows += 1
    }
  }

  result(): Fidelity['accuracy'] {
    return this.#rows === 0 ? undefined : { source: this.#source / this.#rows, variant: this.#variant / this.#rows }
  }
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
