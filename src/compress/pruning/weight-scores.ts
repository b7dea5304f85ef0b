// How much each weight matters, by one number each: its size, chance, its size times what it meets (Wanda), or
// its size times its gradient. Importance of whole channels is importance.ts's business.
import { FlyweightError } from '../../errors.js'
import { node as makeNode, tensorProto, valueInfo } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import type { ModelProto, NodeProto, TensorProto } from '../../onnx/proto.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import { mulberry32 } from '../../runtime/sample-inputs.js'
import { observedModel } from '../calibration/observed-model.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import { batchesOf } from '../samples.js'
import type { FeatureAxis, WeightLayout } from './weight-layouts.js'

/** Rows a run; small, because activations of large models are. */
const BATCH = 4
/** A weight that is not zero never scores as low as one that is, so that zeros count as pruned first. */
const LEAST = 2 ** -149

/** |w| of every weight: Han et al. 2015, https://arxiv.org/abs/1506.02626. */
export function magnitudes(weights: Float32Array): Float32Array {
  return weights.map(Math.abs)
}

/** Uniform in (0, 1), the same for the same seed and place; 0 where the weight is zero. */
export function chances(weights: Float32Array, seed: number): Float32Array {
  const random = mulberry32(seed)
  return weights.map((weight) => {
    const chance = random()
    return weight === 0 ? 0 : Math.max(LEAST, chance)
  })
}

/** |w|·‖x‖₂ with the norm of the feature that each weight meets: Wanda, Sun et al. 2023, https://arxiv.org/abs/2306.11695. */
export function wandaScores(weights: Float32Array, layout: WeightLayout, norms: Float64Array): Float32Array {
  const { rows, inputs, inputStride, kernel, start, feature } = layout
  const scores = new Float32Array(weights.length)
  for (let row = 0; row < rows; row++) {
    for (let input = 0; input < inputs; input++) {
      const norm = norms[feature(row) + input] as number
      const first = start(row) + input * inputStride
      for (let index = first; index < first + kernel; index++) scores[index] = scored(weights[index] as number, norm)
    }
  }
  return scores
}

/** |w·∂L/∂w|, the first-order change of the loss when a weight goes: Molchanov et al. 2019, https://arxiv.org/abs/1906.10771. */
export function gradientScores(weights: Float32Array, gradients: Float32Array): Float32Array {
  return weights.map((weight, index) => scored(weight, Math.abs(gradients[index] as number)))
}

function scored(weight: number, factor: number): number {
  return weight === 0 ? 0 : Math.max(LEAST, Math.abs(weight) * factor)
}

/** A tensor of the outermost graph whose features are to be measured. */
export interface Observed {
  tensor: string
  axis: FeatureAxis
  half: boolean
}

/** The same tensor may be read along different axes. */
export function observationKey({ tensor, axis }: Pick<Observed, 'tensor' | 'axis'>): string {
  return `${axis.kind} ${tensor}`
}

/**
 * L2 norm of every feature of each activation over all samples. Sums of squares are taken inside the graph, so
 * that one number a feature and batch leaves the runtime, never the activation. By observationKey.
 * @throws FlyweightError `invalid_model` when an activation is not finite on the samples, or the model cannot be upgraded.
 */
export async function featureNorms(source: Model, observed: readonly Observed[], context: PassContext): Promise<Map<string, Float64Array>> {
  const sums = new Map<string, Float64Array>()
  if (observed.length === 0) return sums
  const { model, squares } = withSquares(source, observed)
  const session = await openModel(model, { threads: context.threads, workDir: context.workDir })
  try {
    for (const { from, count, feeds } of batchesOf(context.samples, Math.min(BATCH, context.maxBatch))) {
      context.signal?.throwIfAborted()
      const found = await session.run(feeds, [...squares.keys()])
      for (const [output, { tensor, key }] of squares) {
        const values = found[output]?.data as Float32Array
        if (!values.every(Number.isFinite))
          throw new FlyweightError('invalid_model', `tensor "${tensor}" is not finite on samples ${from} to ${from + count - 1}`)
        const sum = sums.get(key) ?? new Float64Array(values.length)
        values.forEach((value, feature) => (sum[feature]! += value))
        sums.set(key, sum)
      }
      context.onProgress?.((from + count) / context.samples.rows, `measuring activations ${from + count}/${context.samples.rows}`)
    }
  } finally {
    await session.release()
  }
  for (const [key, sum] of sums) sums.set(key, sum.map(Math.sqrt))
  return sums
}

/** The model with a sum of squares a feature in place of its own outputs; `squares` says whose each is. */
function withSquares(source: Model, observed: readonly Observed[]): { model: ModelProto; squares: Map<string, { tensor: string; key: string }> } {
  const model = upgradeOpset(source)
  const unique = tensorNames(model)
  const squares = new Map<string, { tensor: string; key: string }>()
  const constants: TensorProto[] = []
  const observers = observed.map(({ tensor, axis, half }) => {
    const nodes: NodeProto[] = []
    const [axes, output] = [unique(`${tensor}::axes`), unique(`${tensor}::squares`)]
    let values = tensor
    if (half) nodes.push(makeNode('Cast', [values], [(values = unique(`${tensor}::float`))], { attributes: { to: 1 } }))
    if (axis.kind === 'last') {
      const shape = unique(`${tensor}::rows`)
      constants.push(tensorProto(shape, 'int64', [2], [-1, axis.features]))
      nodes.push(makeNode('Reshape', [values, shape], [(values = unique(`${tensor}::flat`))]))
    }
    const summed = axis.kind === 'channels' ? Array.from({ length: axis.rank }, (_, i) => i).filter((i) => i !== 1) : [axis.kind === 'last' ? 0 : 1]
    constants.push(tensorProto(axes, 'int64', [summed.length], summed))
    nodes.push(makeNode('ReduceSumSquare', [values, axes], [output], { attributes: { keepdims: 0 } }))
    squares.set(output, { tensor, key: observationKey({ tensor, axis }) })
    return { tensor, nodes, outputs: [valueInfo(output, 'float32', [output])] }
  })
  return { model: observedModel(model, observers, constants), squares }
}
