// Which size every axis of every tensor has, seen by running the model on a few of the samples: one row, several
// rows, and rows of other sizes. What inference rules could not tell, and no declaration promises.
import { FlyweightError } from '../../errors.js'
import { node as makeNode, valueInfo } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import type { ModelProto } from '../../onnx/proto.js'
import type { Tensor } from '../../tensor/tensor.js'
import { observedModel } from '../calibration/observed-model.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import { tensorsOf } from '../tensor-types.js'

/** Rows of the second feed set: enough to tell a batch dimension from others. */
const SEVERAL = 3

export interface Shapes {
  /** Sizes of a tensor in each feed set, one row first; undefined for what is not a tensor of one rank. */
  of(tensor: string): readonly (readonly number[])[] | undefined
  /** Size of an axis where it is the same in all feed sets. */
  size(tensor: string, axis: number): number | undefined
  /** Size of an axis for one row: that of an axis of fixed size, or the part of one that is the batch times it. Indices of the latter repeat. */
  period(tensor: string, axis: number): number | undefined
}

/** Inputs to look at shapes with: the first row, several rows at once, and the first row of another size. */
export function probeFeeds({ samples, maxBatch }: PassContext): Record<string, Tensor>[] {
  if (samples.rows === 0) throw new FlyweightError('invalid_input', 'pruning channels needs at least one sample to see the shapes of tensors, got none')
  const first = samples.take(0, 1)
  const several = Math.min(SEVERAL, maxBatch, samples.rows, samples.alike?.(0, SEVERAL) ?? SEVERAL)
  const feeds = [first]
  if (several > 1) feeds.push(samples.take(0, several))
  const alike = samples.alike?.(0, samples.rows) ?? samples.rows
  if (alike < samples.rows) feeds.push(samples.take(alike, 1))
  return feeds
}

/** Throws what the runtime throws for a model that it cannot run on `feedSets`. */
export async function observeShapes(
  model: Model,
  feedSets: readonly Record<string, Tensor>[],
  { threads, workDir }: Pick<PassContext, 'threads' | 'workDir'>,
): Promise<Shapes> {
  const names = model.graph.node.flatMap(tensorsOf)
  const shapes = new Map<string, (readonly number[])[]>(model.graph.initializer.map(({ name, dims }) => [name, feedSets.map(() => dims.map(Number))]))
  const { observing, shapeOf } = withShapes(model, names)
  const session = await openModel(observing, { threads, workDir, optimization: 'disabled' })
  try {
    for (const [set, feeds] of feedSets.entries()) {
      const seen = await session.run(feeds, [...shapeOf.keys()])
      const dims = [
        ...[...shapeOf].map(([output, name]) => [name, numbersOf(seen[output])] as const),
        ...Object.entries(feeds).map(([name, one]) => [name, [...one.dims]] as const),
      ]
      for (const [name, sizes] of dims) {
        if (set === 0) shapes.set(name, [sizes])
        else if (shapes.get(name)?.[0]?.length === sizes.length) shapes.get(name)?.push(sizes)
        else shapes.delete(name)
      }
    }
  } finally {
    await session.release()
  }
  const rows = feedSets.map((feeds) => Object.values(feeds)[0]?.dims[0] ?? 1)
  const common = (sizes: readonly number[]) => (sizes.every((size) => size === sizes[0]) ? sizes[0] : undefined)
  const size: Shapes['size'] = (tensor, axis) => common(shapes.get(tensor)?.map((dims) => dims[axis] as number) ?? [])
  return {
    of: (tensor) => shapes.get(tensor),
    size,
    period: (tensor, axis) => size(tensor, axis) ?? common(shapes.get(tensor)?.map((dims, set) => (dims[axis] as number) / (rows[set] as number)) ?? []),
  }
}

/** The model with the shape of each tensor named in place of its outputs: the tensors themselves need not leave the runtime. */
function withShapes(model: Model, names: readonly string[]): { observing: ModelProto; shapeOf: Map<string, string> } {
  const unique = tensorNames(model)
  const shapeOf = new Map(names.map((name) => [unique(`${name}::shape`), name]))
  const observers = [...shapeOf].map(([output, tensor]) => ({
    tensor,
    nodes: [makeNode('Shape', [tensor], [output], { name: output })],
    outputs: [valueInfo(output, 'int64', [`${tensor}::rank`])],
  }))
  return { observing: observedModel(model, observers), shapeOf }
}

function numbersOf(tensor: Tensor | undefined): number[] {
  return Array.from(tensor?.data as BigInt64Array, Number)
}
