// Ranges of a model's inner tensors by one of the methods of estimators.ts. Streams: at any time it holds one
// small batch, and a histogram a tensor, however many samples there are.
import { node, tensorProto, valueInfo } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import type { ModelProto, NodeProto } from '../../onnx/proto.js'
import { freeOutputs } from '../../runtime/free-outputs.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import type { Range } from '../quantize/affine.js'
import { batchesOf } from '../samples.js'
import { entropyRange, movingAverage, mseRange, percentileRange } from './estimators.js'
import { addToHistogram, emptyHistogram, type Histogram } from './histogram.js'
import { CALIBRATION_BATCH, minMaxRanges } from './min-max.js'
import { observedModel } from './observed-model.js'

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

/** Runs the model on all samples and counts values of the tensors. */
async function histogramsOf(model: Model, ranges: ReadonlyMap<string, Range>, context: PassContext): Promise<Map<string, Histogram>> {
  const histograms = new Map([...ranges].map(([tensor, range]) => [tensor, emptyHistogram(range)]))
  if (histograms.size === 0) return histograms
  const { observed, valuesOf } = withValues(model, [...ranges.keys()])
  const session = await openModel(observed, { threads: context.threads, workDir: context.workDir })
  try {
    for (const { from, count, feeds } of batchesOf(context.samples, Math.min(CALIBRATION_BATCH, context.maxBatch))) {
      context.signal?.throwIfAborted()
      const outputs = await session.run(feeds)
      for (const [tensor, histogram] of histograms) addToHistogram(histogram, outputs[valuesOf.get(tensor)!]?.data as Float32Array)
      freeOutputs(outputs)
      context.onProgress?.((from + count) / context.samples.rows, `counting values ${from + count}/${context.samples.rows}`)
    }
  } finally {
    await session.release()
  }
  return histograms
}

/** Values looked at of one tensor in one batch; more tell little, and counting all would take longer than computing them. */
const MOST_VALUES = 2 ** 16

/**
 * The model with at most MOST_VALUES values of each tensor as its outputs, evenly spaced; `valuesOf` says whose each is.
 * They are taken inside the graph, so that no tensor leaves the runtime.
 */
function withValues(model: Model, tensors: readonly string[]): { observed: ModelProto; valuesOf: ReadonlyMap<string, string> } {
  const unique = tensorNames(model)
  const constants = { all: -1, zero: 0, one: 1, two: 2, end: 2 ** 40, least: MOST_VALUES - 1, most: 2 * MOST_VALUES }
  const named = new Map(Object.entries(constants).map(([key, value]) => [key, tensorProto(unique(`::${key}`), 'int64', [1], [value])]))
  const constant = (key: keyof typeof constants) => named.get(key)!.name
  const valuesOf = new Map<string, string>()
  const observers = tensors.map((tensor) => {
    const nodes: NodeProto[] = []
    const apply = (opType: string, ...inputs: string[]) => {
      const output = unique(`${tensor}::${opType}`)
      nodes.push(node(opType, inputs, [output]))
      return output
    }
    const size = apply('Reshape', apply('Size', tensor), constant('all'))
    // ⌈size ÷ most values⌉, made odd so that rows of even length are not sampled in the same columns over and over.
    const pairs = apply('Div', apply('Add', size, constant('least')), constant('most'))
    const stride = apply('Add', apply('Mul', pairs, constant('two')), constant('one'))
    const values = apply('Slice', apply('Reshape', tensor, constant('all')), constant('zero'), constant('end'), constant('zero'), stride)
    valuesOf.set(tensor, values)
    return { tensor, nodes, outputs: [valueInfo(values, 'float32', [`${values}::count`])] }
  })
  return { observed: observedModel(model, observers, [...named.values()]), valuesOf }
}
