// Ranges of a model's inner tensors on real inputs: the least and the greatest value ever seen. Each tensor
// is reduced inside the graph, so that one number a tensor and batch leaves the runtime, never the tensor.
import { FlyweightError } from '../../errors.js'
import { node, valueInfo } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import type { ModelProto } from '../../onnx/proto.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import type { Range } from '../quantize/affine.js'
import { batchesOf } from '../samples.js'
import { observedModel } from './observed-model.js'

/** Rows a run; small, because activations of large models are. */
export const CALIBRATION_BATCH = 4

/**
 * Runs `model` (opset 18 or newer) on every sample and returns the range of each float tensor named. `combine` makes
 * one of what is known and a batch's range: the union of both, unless told otherwise.
 * @throws FlyweightError `invalid_model` when a tensor is not finite on real inputs: it cannot be quantized.
 */
export async function minMaxRanges(
  model: Model,
  tensors: readonly string[],
  context: PassContext,
  combine: (known: Range | undefined, batch: Range) => Range = union,
): Promise<Map<string, Range>> {
  const ranges = new Map<string, Range>()
  if (tensors.length === 0) return ranges
  const unique = tensorNames(model)
  const extremes = tensors.map((tensor): Extremes => ({ tensor, lowest: unique(`${tensor}::min`), highest: unique(`${tensor}::max`) }))
  const session = await openModel(observed(model, extremes), { threads: context.threads, workDir: context.workDir })
  try {
    const fetches = extremes.flatMap(({ lowest, highest }) => [lowest, highest])
    for (const { from, count, feeds } of batchesOf(context.samples, Math.min(CALIBRATION_BATCH, context.maxBatch))) {
      context.signal?.throwIfAborted()
      const found = await session.run(feeds, fetches)
      for (const { tensor, lowest, highest } of extremes) {
        const [min, max] = [Number(found[lowest]?.data[0]), Number(found[highest]?.data[0])]
        if (!Number.isFinite(min) || !Number.isFinite(max))
          throw new FlyweightError('invalid_model', `tensor "${tensor}" is not finite on samples ${from} to ${from + count - 1}`)
        ranges.set(tensor, combine(ranges.get(tensor), { min, max }))
      }
      context.onProgress?.((from + count) / context.samples.rows, `calibrating ${from + count}/${context.samples.rows}`)
    }
  } finally {
    await session.release()
  }
  return ranges
}

function union(known: Range | undefined, { min, max }: Range): Range {
  return known === undefined ? { min, max } : { min: Math.min(known.min, min), max: Math.max(known.max, max) }
}

interface Extremes {
  tensor: string
  lowest: string
  highest: string
}

/** The model with two reduced outputs a tensor in place of its own. */
function observed(model: Model, extremes: readonly Extremes[]): ModelProto {
  const observers = extremes.map(({ tensor, lowest, highest }) => ({
    tensor,
    nodes: [node('ReduceMin', [tensor], [lowest], { attributes: { keepdims: 0 } }), node('ReduceMax', [tensor], [highest], { attributes: { keepdims: 0 } })],
    outputs: [valueInfo(lowest, 'float32', []), valueInfo(highest, 'float32', [])],
  }))
  return observedModel(model, observers)
}
