// Rows of several requests ↔ one batch. Copies on the way in, because a batch's buffers move to a
// lane and an entry must survive a retry; views on the way out, because replies are encoded at once.
import { FlyweightError } from '../errors.js'
import type { Signature } from '../registry/model.js'
import { byteSize, dtypes, elementCount, type NumericArray, type Tensor } from '../tensor/tensor.js'
import type { BufferPool } from '../tensor/buffer-pool.js'
import type { Bucket } from './latency-book.js'

export type Feeds = Readonly<Record<string, Tensor>>

/** Rows of a request: the shared first dimension of a batchable model's inputs; 1 when it cannot be batched. */
export function rowsOf(feeds: Feeds, signature: Signature): number {
  if (!signature.batchable) return 1
  const counts = signature.inputs.map(({ name }) => feeds[name]?.dims[0] ?? 1)
  const rows = counts[0] ?? 1
  const odd = counts.findIndex((count) => count !== rows)
  if (odd > 0) {
    const [first, other] = [signature.inputs[0], signature.inputs[odd]]
    throw new FlyweightError('invalid_input', `inputs differ in rows: "${first?.name}" has ${rows}, "${other?.name}" has ${counts[odd]}`, {
      errors: [{ pointer: `/inputs/${other?.name}`, detail: `has ${counts[odd]} rows, expected ${rows} as in "${first?.name}"` }],
    })
  }
  if (rows === 0)
    throw new FlyweightError('invalid_input', 'the batch has no rows', { errors: [{ pointer: '/inputs', detail: 'has 0 rows, expected at least 1' }] })
  return rows
}

export function bytesOf(feeds: Feeds): number {
  return Object.values(feeds).reduce((sum, tensor) => sum + byteSize(tensor), 0)
}

/** The bucket of a request's row shape. `rowDims` of a profile give the reference bucket. */
export function bucketOf(feeds: Feeds, signature: Signature, reference: Bucket['reference']): Bucket {
  const from = signature.batchable ? 1 : 0
  const rowDims = signature.inputs.map(({ name }) => (feeds[name]?.dims ?? []).slice(from))
  const { key, elementsPerRow } = bucketKey(rowDims)
  return { key, elementsPerRow, reference: reference?.key === key ? undefined : reference }
}

/** Name and size of a row shape, inputs in signature order. */
export function bucketKey(rowDims: readonly (readonly number[])[]): { key: string; elementsPerRow: number } {
  return { key: rowDims.map((dims) => dims.join('x')).join(','), elementsPerRow: rowDims.reduce((sum, dims) => sum + elementCount(dims), 0) }
}

/** Copies the rows of all requests, in order, into buffers of `pool`, which may be longer. All must share one bucket. */
export function concatenate(requests: readonly Feeds[], signature: Signature, pool: BufferPool): Record<string, Tensor> {
  return Object.fromEntries(
    signature.inputs.map(({ name }) => [
      name,
      concatenateTensor(
        requests.map((feeds) => feeds[name] as Tensor),
        signature.batchable,
        pool,
      ),
    ]),
  )
}

function concatenateTensor(parts: readonly Tensor[], batchable: boolean, pool: BufferPool): Tensor {
  const [first] = parts as [Tensor]
  const dims = batchable ? [parts.reduce((rows, part) => rows + (part.dims[0] as number), 0), ...first.dims.slice(1)] : first.dims
  if (first.dtype === 'string') return { dtype: 'string', dims, data: parts.flatMap((part) => part.data as string[]) }
  const { array, bytes } = dtypes[first.dtype]
  const count = elementCount(dims)
  const data = new array(pool.take(count * bytes), 0, count) as Uint8Array<ArrayBuffer>
  let offset = 0
  for (const part of parts) {
    data.set(part.data as Uint8Array<ArrayBuffer>, offset)
    offset += part.data.length
  }
  return { dtype: first.dtype, dims, data }
}

/**
 * Splits a batch's outputs by rows; each part is a view into the batch's buffers.
 * @throws FlyweightError `inference_failed` when an output's first dimension is not the batch size.
 */
export function split(outputs: Feeds, rows: readonly number[]): Record<string, Tensor>[] {
  if (rows.length === 1) return [{ ...outputs }]
  const total = rows.reduce((sum, count) => sum + count, 0)
  for (const [name, { dims }] of Object.entries(outputs)) {
    if (dims[0] !== total) throw new FlyweightError('inference_failed', `output "${name}" has ${dims[0] ?? 'no'} rows for a batch of ${total}`)
  }
  let start = 0
  return rows.map((count) => {
    const part = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, sliceRows(tensor, start, count)]))
    start += count
    return part
  })
}

function sliceRows(tensor: Tensor, start: number, count: number): Tensor {
  const perRow = elementCount(tensor.dims.slice(1))
  const [from, to] = [start * perRow, (start + count) * perRow]
  const data = Array.isArray(tensor.data) ? tensor.data.slice(from, to) : ((tensor.data as Uint8Array<ArrayBuffer>).subarray(from, to) as NumericArray)
  return { dtype: tensor.dtype, dims: [count, ...tensor.dims.slice(1)], data }
}
