// The sample inputs that compression works on, as an interface: who reads them from where is not its business.
// Also how they are divided, so that a variant is not judged on the rows it was calibrated on.
import { joinRows } from '../tensor/rows.js'
import type { Tensor } from '../tensor/tensor.js'

export interface Samples {
  readonly rows: number
  /** Identifies the values, so that a variant calibrated on them can be told from another; SHA-256 in hex. */
  readonly digest: string
  /** One class index a row. */
  readonly labels?: ArrayLike<number> | undefined
  /** Inputs of rows `from` … `from + count − 1`; the caller may keep and change them. */
  take(from: number, count: number): Record<string, Tensor>
  /** How many rows from `from` on, at most `most`, have the same shape and so fit into one batch; all where absent. */
  alike?(from: number, most: number): number
}

/** Samples with less than this many rows are not divided: either part would tell too little. */
const FEWEST_TO_DIVIDE = 16

/** Visits all rows up to `limit`, in order, at most `batch` at a time; the rows of a batch have one shape. */
export function* batchesOf(samples: Samples, batch: number, limit = samples.rows): Generator<{ from: number; count: number; feeds: Record<string, Tensor> }> {
  const end = Math.min(samples.rows, limit)
  for (let from = 0; from < end; ) {
    const most = Math.min(batch, end - from)
    const count = samples.alike?.(from, most) ?? most
    yield { from, count, feeds: samples.take(from, count) }
    from += count
  }
}

/**
 * Divides samples into the even rows to calibrate on and the odd rows to evaluate on, labels with them: alternate
 * rows, because files are often sorted by class. Too few rows serve for both.
 */
export function holdOut(samples: Samples): { calibration: Samples; evaluation: Samples; heldOut: boolean } {
  if (samples.rows < FEWEST_TO_DIVIDE) return { calibration: samples, evaluation: samples, heldOut: false }
  return { calibration: alternate(samples, 0), evaluation: alternate(samples, 1), heldOut: true }
}

function alternate(samples: Samples, offset: 0 | 1): Samples {
  const { labels } = samples
  const rows = Math.ceil((samples.rows - offset) / 2)
  const at = (row: number) => 2 * row + offset
  return {
    rows,
    digest: `${samples.digest}/${offset === 0 ? 'even' : 'odd'}`,
    labels: labels === undefined ? undefined : Int32Array.from({ length: rows }, (_, row) => labels[at(row)] as number),
    take: (from, count) => joinRows(Array.from({ length: count }, (_, index) => samples.take(at(from + index), 1))),
    alike: (from, most) => Math.ceil((samples.alike?.(at(from), 2 * most - 1) ?? 2 * most - 1) / 2),
  }
}

/** At most `most` rows of `samples`, evenly spaced, because files are often sorted by class. */
export function evenlySpaced(samples: Samples, most: number): Samples {
  if (samples.rows <= most) return samples
  return rowsOf(
    samples,
    Array.from({ length: most }, (_, row) => Math.floor((row * samples.rows) / most)),
  )
}

/** Those rows of `samples` alone; `at` is ascending. */
export function rowsOf(samples: Samples, at: readonly number[]): Samples {
  const { labels } = samples
  return {
    rows: at.length,
    digest: `${samples.digest}/${at.join(',')}`,
    labels: labels === undefined ? undefined : Int32Array.from(at, (row) => labels[row] as number),
    take: (from, count) => joinRows(at.slice(from, from + count).map((row) => samples.take(row, 1))),
    alike: (from, most) => {
      const rows = at.slice(from, from + most)
      const [first = 0, last = first] = [rows[0], rows.at(-1)]
      const end = first + (samples.alike?.(first, last - first + 1) ?? last - first + 1)
      return rows.filter((row) => row < end).length
    },
  }
}
