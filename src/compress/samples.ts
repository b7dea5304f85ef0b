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
 * Divides samples into halves to calibrate and to evaluate on, labels with them: of each two neighbours one goes here
 * and one there, because files are often sorted by class; which one follows no period, because classes may alternate.
 * Too few rows serve for both.
 */
export function holdOut(samples: Samples): { calibration: Samples; evaluation: Samples; heldOut: boolean } {
  const { rows, digest } = samples
  if (rows < FEWEST_TO_DIVIDE) return { calibration: samples, evaluation: samples, heldOut: false }
  const half = (own: 0 | 1): Samples => {
    const at = Array.from({ length: Math.ceil((rows - own) / 2) }, (_, pair) => 2 * pair + (2 * pair + 1 < rows ? own ^ thueMorse(pair) : 0))
    return { ...rowsOf(samples, at), digest: `${digest}/${own === 0 ? 'calibration' : 'evaluation'}` }
  }
  return { calibration: half(0), evaluation: half(1), heldOut: true }
}

/** Parity of the ones in `index`: the Thue-Morse sequence, in which no block comes three times in a row. */
function thueMorse(index: number): 0 | 1 {
  let parity: 0 | 1 = 0
  for (let rest = index; rest > 0; rest = Math.floor(rest / 2)) if (rest % 2 === 1) parity = parity === 0 ? 1 : 0
  return parity
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
