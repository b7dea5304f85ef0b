// Compressing small models in tests: seeded weights and samples, one pass run on a graph, and what the
// runtime makes of the result.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RecipeStep } from '#flyweight/measurements.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import type { Model, PassContext, PassResult } from '#flyweight/compress/passes/pass.js'
import { passNamed } from '#flyweight/compress/passes/table.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { model, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../onnx/running.js'

/** Seeded float32 weights, uniform in ±`size`. */
export function weights(name: string, dims: readonly number[], { size = 1, seed = 1 } = {}): TensorProto {
  return tensorProto(
    name,
    'float32',
    dims,
    (noise(dims, seed).data as Float32Array<ArrayBuffer>).map((value) => value * size),
  )
}

/** A model from `x` to `y` (both float32), its batch dimension free. */
export function network(
  rowDims: readonly (number | string)[],
  outputDims: readonly (number | string)[],
  nodes: NodeProto[],
  initializers: TensorProto[],
): Model {
  return model({ inputs: [valueInfo('x', 'float32', ['n', ...rowDims])], outputs: [valueInfo('y', 'float32', outputDims)], nodes, initializers })
}

/** Seeded rows for an input `x`. */
export function noiseSamples(rowDims: readonly number[], rows = 16): Samples {
  return { rows, digest: 'noise', take: (from, count) => ({ x: joined(rowDims, from, count) }) }
}

function joined(rowDims: readonly number[], from: number, count: number): Tensor {
  const rows = Array.from({ length: count }, (_, row) => noise(rowDims, 1000 + from + row).data as Float32Array)
  return { dtype: 'float32', dims: [count, ...rowDims], data: Float32Array.from(rows.flatMap((row) => [...row])) }
}

/** Runs `work` with a folder that is gone afterwards. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'flyweight-compress-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Runs the passes of a short string one after the other; the result of the last. */
export function compressed(source: Model, recipe: string | RecipeStep[], samples: Samples, maxBatch = 32): Promise<PassResult> {
  return withFolder(async (workDir) => {
    const context: PassContext = { loadOriginal: () => Promise.resolve(source), device: 'cpu', samples, maxBatch, threads: 1, workDir }
    let result: PassResult = { model: source, decisions: [], summary: '' }
    for (const step of parseRecipe(recipe).recipe ?? []) result = await passNamed(step.pass)!.run(result.model, step, context)
    return result
  })
}

export async function outputs(of: Model, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
  const session = await openSession(encodeModel(of))
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

/** How often each operator is in the graph that the runtime executes, after all its fusions. */
export function executedOperators(of: Model): Promise<Record<string, number>> {
  return withFolder(async (folder) => {
    const file = join(folder, 'optimized.onnx')
    await (await openSession(encodeModel(of), { optimizedModelFile: file })).release()
    return operators((await loadModel(file)).graph.node)
  })
}

export function operators(nodes: readonly NodeProto[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { opType } of nodes) counts[opType] = (counts[opType] ?? 0) + 1
  return counts
}

/** Signal to noise of `actual` in dB. */
export function sqnr(expected: Tensor, actual: Tensor): number {
  const [want, got] = [expected.data as Float32Array, actual.data as Float32Array]
  let [signal, error] = [0, 0]
  want.forEach((value, i) => {
    signal += value ** 2
    error += (value - (got[i] ?? Number.NaN)) ** 2
  })
  return 10 * Math.log10(signal / error)
}

/** SQNR of output `y` of a compressed model against its source, on rows that calibration did not see. */
export async function fidelityOf(source: Model, variant: Model, rowDims: readonly number[]): Promise<number> {
  const feeds = { x: joined(rowDims, 500, 4) }
  const [expected, actual] = [await outputs(source, feeds), await outputs(variant, feeds)]
  if (String(expected['y']?.dims) !== String(actual['y']?.dims) || actual['y']?.dtype !== 'float32') throw new Error('the output changed its shape or type')
  return sqnr(expected['y']!, actual['y'])
}
