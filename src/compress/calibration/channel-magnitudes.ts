// The greatest magnitude a channel (an index of the last dimension) of tensors on real inputs. Reduced inside the
// graph, so that one number a channel and batch leaves the runtime.
import { FlyweightError } from '../../errors.js'
import { node, tensorProto, valueInfo } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import { batchesOf } from '../samples.js'
import { CALIBRATION_BATCH } from './min-max.js'
import { observedModel } from './observed-model.js'

/**
 * Runs `model` (opset 18 or newer) on every sample; for each float32 tensor, `width` values.
 * @throws FlyweightError `invalid_model` when a tensor is not finite on real inputs.
 */
export async function channelMagnitudes(
  model: Model,
  tensors: readonly { tensor: string; width: number }[],
  { samples, maxBatch, threads, workDir, signal, onProgress }: PassContext,
): Promise<Map<string, Float32Array>> {
  const magnitudes = new Map(tensors.map(({ tensor, width }) => [tensor, new Float32Array(width)]))
  if (tensors.length === 0) return magnitudes
  const unique = tensorNames(model)
  const observed = tensors.map(({ tensor, width }) => ({ tensor, width, output: unique(`${tensor}::magnitude`), part: unique(`${tensor}::part`) }))
  const observers = observed.map(({ tensor, width, output, part }) => ({
    tensor,
    nodes: [
      node('Constant', [], [`${part}.shape`], { attributes: { value: tensorProto('', 'int64', [2], [-1, width]) } }),
      node('Constant', [], [`${part}.axes`], { attributes: { value: tensorProto('', 'int64', [1], [0]) } }),
      node('Abs', [tensor], [`${part}.abs`]),
      node('Reshape', [`${part}.abs`, `${part}.shape`], [`${part}.rows`]),
      node('ReduceMax', [`${part}.rows`, `${part}.axes`], [output], { attributes: { keepdims: 0 } }),
    ],
    outputs: [valueInfo(output, 'float32', [width])],
  }))
  const session = await openModel(observedModel(model, observers), { threads, workDir })
  try {
    for (const { from, count, feeds } of batchesOf(samples, Math.min(CALIBRATION_BATCH, maxBatch))) {
      signal?.throwIfAborted()
      const found = await session.run(feeds)
      for (const { tensor, output: name } of observed) {
        const [known, own] = [magnitudes.get(tensor)!, found[name]!.data as Float32Array]
        own.forEach((value, channel) => (known[channel] = Math.max(known[channel]!, value)))
        if (!known.every(Number.isFinite))
          throw new FlyweightError('invalid_model', `tensor "${tensor}" is not finite on samples ${from} to ${from + count - 1}`)
      }
      onProgress?.((from + count) / samples.rows, `measuring channels ${from + count}/${samples.rows}`)
    }
  } finally {
    await session.release()
  }
  return magnitudes
}
