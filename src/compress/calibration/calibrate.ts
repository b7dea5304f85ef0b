// Ranges of a model's inner tensors by one of the methods of estimators.ts. Streams: at any time it holds one
// small batch of activations, and a histogram a tensor, however many samples there are.
import { create, GraphProtoSchema, ModelProtoSchema, ValueInfoProtoSchema } from '../../onnx/proto.js'
import { freeOutputs } from '../../runtime/free-outputs.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import type { Range } from '../quantize/affine.js'
import { batchesOf } from '../samples.js'
import { entropyRange, movingAverage, mseRange, percentileRange } from './estimators.js'
import { addToHistogram, emptyHistogram, type Histogram } from './histogram.js'
import { CALIBRATION_BATCH, minMaxRanges } from './min-max.js'

export const calibrationMethods = ['min-max', 'moving-average', 'percentile', 'entropy', 'mse'] as const
export type CalibrationMethod = (typeof calibrationMethods)[number]

export interface Calibration {
  method: CalibrationMethod
  /** For `percentile`: percent of values that the range covers, 0 to 100. */
  percentile: number
}

/**
 * Range of each float tensor named, from all samples of the context; `model` is of opset 18 or newer.
 * @throws FlyweightError `invalid_model` when a tensor is not finite on a sample: it cannot be quantized.
 */
export async function calibrate(
  model: Model,
  tensors: readonly string[],
  { method, percentile }: Calibration,
  context: PassContext,
): Promise<Map<string, Range>> {
  if (method === 'min-max') return minMaxRanges(model, tensors, context)
  if (method === 'moving-average') return minMaxRanges(model, tensors, context, movingAverage)
  const twice = (from: number): PassContext => ({ ...context, onProgress: (fraction, step) => context.onProgress?.(from + fraction / 2, step) })
  const histograms = await histogramsOf(model, await minMaxRanges(model, tensors, twice(0)), twice(0.5))
  const estimate = { percentile: (seen: Histogram) => percentileRange(seen, percentile), entropy: entropyRange, mse: mseRange }[method]
  return new Map([...histograms].map(([tensor, histogram]) => [tensor, estimate(histogram)]))
}

/** Runs the model with the tensors as its outputs and counts their values. */
async function histogramsOf(model: Model, ranges: ReadonlyMap<string, Range>, context: PassContext): Promise<Map<string, Histogram>> {
  const histograms = new Map([...ranges].map(([tensor, range]) => [tensor, emptyHistogram(range)]))
  if (histograms.size === 0) return histograms
  const output = [...ranges.keys()].map((name) => create(ValueInfoProtoSchema, { name }))
  const observed = create(ModelProtoSchema, { ...model, graph: create(GraphProtoSchema, { ...model.graph, output }) })
  const session = await openModel(observed, { threads: context.threads, workDir: context.workDir })
  try {
    for (const { from, count, feeds } of batchesOf(context.samples, Math.min(CALIBRATION_BATCH, context.maxBatch))) {
      context.signal?.throwIfAborted()
      const outputs = await session.run(feeds)
      for (const [tensor, histogram] of histograms) addToHistogram(histogram, outputs[tensor]?.data as Float32Array)
      freeOutputs(outputs)
      context.onProgress?.((from + count) / context.samples.rows, `counting values ${from + count}/${context.samples.rows}`)
    }
  } finally {
    await session.release()
  }
  return histograms
}
