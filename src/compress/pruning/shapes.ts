// Which size every axis of every tensor has, seen by running the model on a few of the samples: one row, several
// rows, and rows of other sizes. What inference rules could not tell, and no declaration promises.
import { FlyweightError } from '../../errors.js'
import { probeShapes } from '../../onnx/probe.js'
import { openSession } from '../../runtime/session.js'
import { elementCount, type Tensor } from '../../tensor/tensor.js'
import type { Model, PassContext } from '../passes/pass.js'

/** Rows of the second feed set: enough to tell a batch dimension from others. */
const SEVERAL = 3

export interface Shapes {
  /** Sizes of a tensor in each feed set, one row first; undefined for what is not a tensor of one rank. */
  of(tensor: string): readonly (readonly number[])[] | undefined
  /** Size of an axis where it is the same in all feed sets. */
  size(tensor: string, axis: number): number | undefined
  /** Size of an axis for one row: that of an axis of fixed size, or the part of one that is the batch times it. Indices of the latter repeat. */
  period(tensor: string, axis: number): number | undefined
  /** Whether the tensor is of floats, which weights can make. */
  isFloat(tensor: string): boolean
}

/** Inputs to look at shapes with: the first row, several rows at once, and the smallest row of another size. */
export function probeFeeds({ samples, maxBatch }: PassContext): Record<string, Tensor>[] {
  if (samples.rows === 0) throw new FlyweightError('invalid_input', 'pruning channels needs at least one sample to see the shapes of tensors, got none')
  const first = samples.take(0, 1)
  const several = Math.min(SEVERAL, maxBatch, samples.rows, samples.alike?.(0, SEVERAL) ?? SEVERAL)
  const feeds = [first]
  if (several > 1) feeds.push(samples.take(0, several))
  const count = (feed: Record<string, Tensor>) => Object.values(feed).reduce((sum, { dims }) => sum + elementCount(dims), 0)
  const row = Array.from({ length: samples.rows - 1 }, (_, index) => index + 1).find(
    (at) => samples.alike !== undefined && count(samples.take(at, 1)) !== count(first),
  )
  if (row !== undefined) feeds.push(samples.take(row, 1))
  return feeds
}

/** Throws what the runtime throws for a model that it cannot run on `feedSets`. */
export async function observeShapes(model: Model, feedSets: readonly Record<string, Tensor>[], { threads }: Pick<PassContext, 'threads'>): Promise<Shapes> {
  const seen: Awaited<ReturnType<typeof probeShapes>>[] = []
  for (const feeds of feedSets) {
    seen.push(
      await probeShapes(model, [feeds], async (bytes, inputs, fetches) => {
        const session = await openSession(bytes, { threads, optimization: 'disabled' })
        try {
          return await session.run(inputs, fetches)
        } finally {
          await session.release()
        }
      }),
    )
  }
  const shapes = new Map<string, number[][]>()
  for (const name of seen[0]?.keys() ?? []) {
    const sets = seen.map((one) => one.get(name)?.dims ?? [])
    if (sets.every((dims) => dims.length === sets[0]?.length)) shapes.set(name, sets)
  }
  const rows = feedSets.map((feeds) => Object.values(feeds)[0]?.dims[0] ?? 1)
  const common = (sizes: readonly number[]) => (sizes.every((size) => size === sizes[0]) ? sizes[0] : undefined)
  const size: Shapes['size'] = (tensor, axis) => common(shapes.get(tensor)?.map((dims) => dims[axis] as number) ?? [])
  return {
    of: (tensor) => shapes.get(tensor),
    size,
    period: (tensor, axis) => size(tensor, axis) ?? common(shapes.get(tensor)?.map((dims, set) => (dims[axis] as number) / (rows[set] as number)) ?? []),
    isFloat: (tensor) => /^b?float/.test(seen[0]?.get(tensor)?.dtype ?? ''),
  }
}
