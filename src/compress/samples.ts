// The sample inputs that compression works on, as an interface: who reads them from where is not its business.
import type { Tensor } from '../tensor/tensor.js'

export interface Samples {
  readonly rows: number
  /** Identifies the values, so that a variant calibrated on them can be told from another; SHA-256 in hex. */
  readonly digest: string
  /** One class index a row. */
  readonly labels?: ArrayLike<number> | undefined
  /** Inputs of rows `from` … `from + count − 1`; the caller may keep and change them. */
  take(from: number, count: number): Record<string, Tensor>
}

/** Visits all rows up to `limit`, in order, at most `batch` at a time. */
export function* batchesOf(samples: Samples, batch: number, limit = samples.rows): Generator<{ from: number; count: number; feeds: Record<string, Tensor> }> {
  const end = Math.min(samples.rows, limit)
  for (let from = 0; from < end; from += batch) {
    const count = Math.min(batch, end - from)
    yield { from, count, feeds: samples.take(from, count) }
  }
}
