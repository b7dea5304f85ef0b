// Finds the nodes that half precision would ruin on sample inputs: those whose values exceed its range, and, by
// bisection on the model's outputs, those that make too large an error. What is looked at is bounded, never timed.
import { node, valueInfo } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import { create, GraphProtoSchema, ModelProtoSchema, structuralCopy } from '../../onnx/proto.js'
import type { Tensor } from '../../tensor/tensor.js'
import { labelOf } from '../passes/decisions.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import { batchesOf } from '../samples.js'
import type { GraphTypes } from '../tensor-types.js'
import { halve } from './convert.js'
import { LARGEST } from './forms.js'

interface SearchOptions {
  types: ReadonlyMap<string, GraphTypes>
  /** Nodes that stay in float32 anyway, each with the reason. */
  keep: ReadonlyMap<string, string>
  /** Largest error of an output: root of the mean square, relative to the output's. */
  tolerance: number
}

const BATCH = 4
const ROWS_OBSERVED = 64
const ROWS_COMPARED = 8
/** Conversions tried; groups of nodes still undecided then stay in float32. */
const MOST_TRIALS = 64

/** Nodes of a prepared model to keep in float32, each with the reason; those of `keep` among them. */
export async function searchHalf(model: Model, { types, keep, tolerance }: SearchOptions, context: PassContext): Promise<Map<string, string>> {
  const kept = new Map([...keep, ...(await overflowing(model, types.get('') ?? new Map(), context))])
  const expected = await outputsOf(model, context)
  const candidates = halve(structuralCopy(model), { types, keep: kept })
    .filter(({ action }) => action === 'done')
    .map((decision) => decision.node)
  let trials = 0
  const errorWith = async (converted: ReadonlySet<string>): Promise<number> => {
    const trial = structuralCopy(model)
    const others = candidates.filter((label) => !converted.has(label)).map((label): [string, string] => [label, ''])
    halve(trial, { types, keep: new Map([...kept, ...others]), rounded: true })
    context.onProgress?.(0.5 + (0.5 * trials) / MOST_TRIALS, `trying half precision, ${candidates.length - others.length} nodes`)
    trials++
    return errorOf(expected, await outputsOf(trial, context))
  }
  const good = new Set<string>()
  // Groups are halved until the nodes that make the error stand alone; what passes stays converted while the rest is tried.
  const undecided = [candidates]
  for (let group = undecided.pop(); group !== undefined; group = undecided.pop()) {
    if (group.length === 0) continue
    const error = trials < MOST_TRIALS ? await errorWith(new Set([...good, ...group])) : Number.NaN
    if (error <= tolerance) for (const label of group) good.add(label)
    else if (group.length > 1 && trials < MOST_TRIALS) {
      const middle = Math.ceil(group.length / 2)
      undecided.push(group.slice(middle), group.slice(0, middle))
    } else for (const label of group) kept.set(label, reasonFor(error, tolerance))
  }
  return kept
}

function reasonFor(error: number, tolerance: number): string {
  if (Number.isNaN(error)) return `it was among nodes that err by more than ${tolerance} together, and the search for which ended after ${MOST_TRIALS} trials`
  return error === Infinity
    ? 'half precision makes outputs infinite or undefined on sample inputs'
    : `half precision makes outputs err by ${error.toPrecision(2)} on sample inputs, more than ${tolerance}`
}

/** Nodes that read or write a computed tensor beyond the range of half precision. */
async function overflowing(model: Model, types: GraphTypes, context: PassContext): Promise<Map<string, string>> {
  const largest = await magnitudes(model, types, context)
  const found = new Map<string, string>()
  for (const one of model.graph.node) {
    const most = Math.max(0, ...[...one.input, ...one.output].map((tensor) => largest.get(tensor) ?? 0))
    if (most > LARGEST)
      found.set(labelOf(one), `its values reach ${most.toExponential(1).replace('+', '')} on sample inputs, and half precision ends at ${LARGEST}`)
  }
  return found
}

/** The largest finite magnitude of each computed float tensor over the samples; infinite ones stay infinite in either precision. */
async function magnitudes(
  model: Model,
  types: GraphTypes,
  { samples, maxBatch, threads, workDir, signal, onProgress }: PassContext,
): Promise<Map<string, number>> {
  const unique = tensorNames(model)
  const inputs = model.graph.input.map(({ name }) => name)
  const stored = new Set(model.graph.initializer.map(({ name }) => name))
  const tensors = [...new Set([...inputs, ...model.graph.node.flatMap(({ output }) => output)])].filter(
    (name) => types.get(name) === 'float32' && !stored.has(name),
  )
  const observers = tensors.map((tensor) => ({ tensor, absolute: unique(`${tensor}::abs`), most: unique(`${tensor}::most`) }))
  const reduced = observers.flatMap(({ tensor, absolute, most }) => [
    node('Abs', [tensor], [absolute]),
    node('ReduceMax', [absolute], [most], { attributes: { keepdims: 0 } }),
  ])
  const output = observers.map(({ most }) => valueInfo(most, 'float32', []))
  const graph = create(GraphProtoSchema, { ...model.graph, node: [...model.graph.node, ...reduced], output })
  const found = new Map<string, number>()
  const session = await openModel(create(ModelProtoSchema, { ...model, graph }), { threads, workDir })
  try {
    for (const { from, count, feeds } of batchesOf(samples, Math.min(BATCH, maxBatch), ROWS_OBSERVED)) {
      signal?.throwIfAborted()
      const results = await session.run(feeds)
      for (const { tensor, most } of observers) {
        const value = Number(results[most]?.data[0])
        if (Number.isFinite(value)) found.set(tensor, Math.max(found.get(tensor) ?? 0, value))
      }
      onProgress?.((0.5 * (from + count)) / Math.min(samples.rows, ROWS_OBSERVED), 'looking for values beyond half precision')
    }
  } finally {
    await session.release()
  }
  return found
}

/** Float outputs of a model on the first samples, batch by batch. */
async function outputsOf(model: Model, { samples, maxBatch, threads, workDir, signal }: PassContext): Promise<Record<string, Tensor>[]> {
  const session = await openModel(model, { threads, workDir })
  try {
    const results: Record<string, Tensor>[] = []
    for (const { feeds } of batchesOf(samples, Math.min(BATCH, maxBatch), ROWS_COMPARED)) {
      signal?.throwIfAborted()
      results.push(await session.run(feeds))
    }
    return results
  } finally {
    await session.release()
  }
}

/** The largest error over outputs; Infinity where one is not finite that was, or changes its shape. */
function errorOf(expected: readonly Record<string, Tensor>[], actual: readonly Record<string, Tensor>[]): number {
  const squares = new Map<string, { signal: number; error: number }>()
  for (const [batch, outputs] of expected.entries()) {
    for (const [name, { dtype, data }] of Object.entries(outputs)) {
      if (dtype !== 'float32') continue
      const got = actual[batch]?.[name]?.data
      if (got?.length !== data.length) return Infinity
      const sums = squares.get(name) ?? { signal: 0, error: 0 }
      squares.set(name, sums)
      for (const [position, value] of (data as Float32Array).entries()) {
        if (!Number.isFinite(value)) continue
        const difference = value - Number(got[position])
        if (!Number.isFinite(difference)) return Infinity
        sums.signal += value ** 2
        sums.error += difference ** 2
      }
    }
  }
  return Math.max(0, ...[...squares.values()].map(({ signal, error }) => (error === 0 ? 0 : Math.sqrt(error / signal))))
}
