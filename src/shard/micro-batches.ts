// Rows of a batch as micro-batches, and their outputs as rows of one batch again. Copies on both ways: micro-batches'
// buffers move to devices, and what comes back is the runtime's memory, which is freed at once.
import { FlyweightError } from '../errors.js'
import { allocate, dtypes, elementCount, type Tensor } from '../tensor/tensor.js'

type Feeds = Readonly<Record<string, Tensor>>

/** A micro-batch's rows within its batch. */
export interface Rows {
  first: number
  rows: number
}

/** As few micro-batches as hold at most `most` rows each, and equal but for one row. */
export function microBatches(rows: number, most: number): Rows[] {
  const count = Math.max(1, Math.ceil(rows / most))
  const starts = Array.from({ length: count + 1 }, (_, index) => Math.floor((index * rows) / count))
  return Array.from({ length: count }, (_, index) => ({ first: starts[index]!, rows: starts[index + 1]! - starts[index]! }))
}

/**
 * Rows that the inputs share.
 * @throws FlyweightError `invalid_input` where they do not
 */
export function sharedRows(feeds: Feeds, inputs: readonly string[]): number {
  const [first, ...others] = inputs
  const rows = feeds[first ?? '']?.dims[0] ?? 1
  const odd = others.find((name) => feeds[name]?.dims[0] !== rows)
  if (odd === undefined) return rows
  throw new FlyweightError('invalid_input', `inputs differ in rows: "${first}" has ${rows}, "${odd}" has ${feeds[odd]?.dims[0] ?? 'none'}`)
}

/** A copy of some rows, in memory that `take` gives, which may be longer. */
export function cutRows({ dtype, dims, data }: Tensor, { first, rows }: Rows, take: (bytes: number) => ArrayBuffer): Tensor {
  const row = elementCount(dims.slice(1))
  const [from, to] = [first * row, (first + rows) * row]
  const cut = { dtype, dims: [rows, ...dims.slice(1)] }
  if (Array.isArray(data)) return { ...cut, data: data.slice(from, to) }
  const { array, bytes } = dtypes[dtype as Exclude<Tensor['dtype'], 'string'>]
  const copy = new array(take((to - from) * bytes), 0, to - from)
  copy.set(data.subarray(from, to) as never)
  return { ...cut, data: copy }
}

/**
 * Writes the rows of a micro-batch into those of the whole, which are made with the first.
 * @throws FlyweightError `inference_failed` for an output that has not one row for each of the micro-batch's, or other dims than before
 */
export function placeRows(whole: Record<string, Tensor>, part: Feeds, { first, rows, of }: Rows & { of: number }): void {
  for (const [name, { dtype, dims, data }] of Object.entries(part)) {
    const [count, ...rest] = dims
    if (count !== rows) throw new FlyweightError('inference_failed', `output "${name}" has ${count ?? 'no'} rows for a micro-batch of ${rows}`)
    const row = elementCount(rest)
    const joined = (whole[name] ??= { dtype, dims: [of, ...rest], data: allocate(dtype, of * row) })
    if (String(joined.dims.slice(1)) !== String(rest)) {
      throw new FlyweightError(
        'inference_failed',
        `output "${name}" has dims [${dims.join(', ')}] for one micro-batch, expected [${[rows, ...joined.dims.slice(1)].join(', ')}] as for another`,
      )
    }
    if (Array.isArray(joined.data)) for (const [index, text] of (data as string[]).entries()) joined.data[first * row + index] = text
    else joined.data.set(data as never, first * row)
  }
}
