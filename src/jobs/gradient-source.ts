// Sizes of gradients for pruning, from the training engine: of cross-entropy with the samples' labels, or, without labels, with what
// the model itself answers. Compression knows only the interface (compress/passes/pass.ts).
import type { GradientSource, Model } from '../compress/passes/pass.js'
import type { Samples } from '../compress/samples.js'
import { FlyweightError } from '../errors.js'
import { encodeModel } from '../onnx/proto.js'
import { openSession, type Session } from '../runtime/session.js'
import type { Tensor } from '../tensor/tensor.js'
import { LABELS } from '../train/evaluate.js'
import { gradientMagnitudes } from '../train/gradient-magnitudes.js'
import { lossOf } from '../train/losses/table.js'

/** Rows of a batch at most. */
const BATCH = 8

/** @throws FlyweightError `invalid_recipe` for samples of several shapes, `invalid_model` for a model without a gradient */
export const sampleGradients: GradientSource = async (model, initializers, { samples, maxBatch, threads, signal }) => {
  if ((samples.alike?.(0, samples.rows) ?? samples.rows) < samples.rows) {
    throw new FlyweightError('invalid_recipe', 'importance by gradients needs samples of one shape, got rows of several')
  }
  const output = model.graph.output[0]?.name ?? ''
  const session = await openSession(encodeModel(model), { threads })
  try {
    const batches: Record<string, Tensor>[] = []
    const count = batchOf(samples.rows, Math.min(BATCH, maxBatch))
    for (let from = 0; from < samples.rows; from += count) {
      signal?.throwIfAborted()
      batches.push(await labelled(samples, { from, count, session, output }))
    }
    const loss = lossOf({ kind: 'cross-entropy', predictions: givesProbabilities(model, output) ? 'probabilities' : 'logits' })
    return await gradientMagnitudes({
      model,
      parameters: initializers,
      batches,
      loss: (emit, tensors) => loss(emit, { prediction: output, target: LABELS, tensors }),
      threads,
      signal,
    })
  } finally {
    await session.release()
  }
}

/** Rows of a batch of which the samples are a whole number: every row counts alike, and all batches have one shape. */
function batchOf(rows: number, most: number): number {
  for (let size = Math.min(rows, most); size > 1; size--) if (rows % size === 0) return size
  return 1
}

async function labelled(
  samples: Samples,
  { from, count, session, output }: { from: number; count: number; session: Session; output: string },
): Promise<Record<string, Tensor>> {
  const feeds = samples.take(from, count)
  const { [output]: scores } = await session.run(feeds, [output])
  const { dims, data } = scores as Tensor
  const { labels } = samples
  const fit = labels !== undefined && dims.length === 2
  const answers = fit ? Array.from({ length: count }, (_, row) => labels[from + row] as number) : bestClasses(data as Float32Array, dims.at(-1) ?? 1)
  return { ...feeds, [LABELS]: { dtype: 'int64', dims: dims.slice(0, -1), data: BigInt64Array.from(answers, BigInt) } }
}

/** The class of the largest score at each position. */
function bestClasses(scores: Float32Array, classes: number): number[] {
  return Array.from({ length: scores.length / classes }, (_, position) => {
    let best = 0
    for (let index = 1; index < classes; index++)
      if ((scores[position * classes + index] as number) > (scores[position * classes + best] as number)) best = index
    return best
  })
}

function givesProbabilities({ graph }: Model, output: string): boolean {
  return graph.node.some(({ opType, output: written }) => opType === 'Softmax' && written.includes(output))
}
