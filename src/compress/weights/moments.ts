// Second moments X^T · X of tensors on real inputs, over all their rows. They are computed inside the graph and summed
// over batches here, so that no activations leave the runtime.
import { FlyweightError } from '../../errors.js'
import { node, tensorProto, valueInfo } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import type { ModelProto } from '../../onnx/proto.js'
import { observedModel } from '../calibration/observed-model.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import { batchesOf } from '../samples.js'

/** A float32 tensor of the outermost graph, the size of its last dimension known. */
export interface Observed {
  tensor: string
  width: number
}

/** Rows a run. */
const BATCH = 4
/** Bytes of moments that are held at a time; one tensor is always allowed. */
const MOST_BYTES = 2 ** 28

/** The tensors in groups whose moments fit into memory together. */
export function momentGroups(tensors: readonly Observed[]): Observed[][] {
  const groups: Observed[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const observed of tensors) {
    const own = observed.width ** 2 * Float64Array.BYTES_PER_ELEMENT
    if (bytes + own > MOST_BYTES) {
      groups.push([])
      bytes = 0
    }
    groups.at(-1)?.push(observed)
    bytes += own
  }
  return groups
}

/**
 * Runs `model` on at most `limit` samples. Moments are [width, width], row by row.
 * @throws FlyweightError `invalid_model` when a tensor is not finite on real inputs.
 */
export async function secondMoments(
  model: Model,
  tensors: readonly Observed[],
  { samples, maxBatch, threads, signal }: PassContext,
  limit: number,
): Promise<Map<string, Float64Array>> {
  const unique = tensorNames(model)
  const outputs = tensors.map((observed) => ({ ...observed, output: unique(`${observed.tensor}::moments`) }))
  const sums = new Map(tensors.map(({ tensor, width }) => [tensor, new Float64Array(width ** 2)]))
  const session = await openModel(withMoments(model, outputs), { threads })
  try {
    for (const { from, count, feeds } of batchesOf(samples, Math.min(BATCH, maxBatch), limit)) {
      signal?.throwIfAborted()
      const found = await session.run(
        feeds,
        outputs.map(({ output }) => output),
      )
      for (const { tensor, output } of outputs) {
        const [sum, own] = [sums.get(tensor)!, found[output]!.data as Float32Array]
        for (let i = 0; i < sum.length; i++) sum[i]! += own[i]!
        if (!Number.isFinite(sum[0])) throw new FlyweightError('invalid_model', `tensor "${tensor}" is not finite on samples ${from} to ${from + count - 1}`)
      }
    }
  } finally {
    await session.release()
  }
  return sums
}

function withMoments(model: Model, outputs: readonly (Observed & { output: string })[]): ModelProto {
  const observers = outputs.map(({ tensor, width, output }) => ({
    tensor,
    nodes: [
      node('Constant', [], [`${output}.shape`], { attributes: { value: tensorProto('', 'int64', [2], [-1, width]) } }),
      node('Reshape', [tensor, `${output}.shape`], [`${output}.rows`]),
      node('Transpose', [`${output}.rows`], [`${output}.columns`], { attributes: { perm: [1, 0] } }),
      node('MatMul', [`${output}.columns`, `${output}.rows`], [output]),
    ],
    outputs: [valueInfo(output, 'float32', [width, width])],
  }))
  return observedModel(model, observers)
}
