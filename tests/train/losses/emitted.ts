// Losses as graphs of their own: their values, and their gradients against differences.
import { model, valueInfo } from '#flyweight/onnx/builder.js'
import { Emitter } from '#flyweight/onnx/emitter.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { noise, run } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'

export type Options = Parameters<typeof lossOf>[0]
export type Feeds = Record<string, Tensor> & { prediction: Tensor; target: Tensor }

/** The value of a loss of `prediction`, `target` and, where they are fed, `labels`. */
export async function valueOf(options: Options, feeds: Feeds): Promise<number> {
  const { nodes, constants, loss } = emitted(options, feeds)
  const inputs = Object.entries(feeds).map(([name, { dtype, dims }]) => valueInfo(name, dtype, dims))
  const dtype = feeds.prediction.dtype
  const results = await run(model({ inputs, outputs: [valueInfo(loss, dtype, [])], nodes, initializers: constants }), feeds)
  return (results[loss] as Tensor).data[0] as number
}

/** Checks the gradient by the prediction. */
export async function checkLoss(options: Options, feeds: Feeds, difference: { step?: number } = {}): Promise<void> {
  const { nodes, constants, loss } = emitted(options, feeds)
  await checkGradients({ nodes, constants, feeds, outputs: [loss], wanted: ['prediction'], ...difference })
}

function emitted(options: Options, feeds: Feeds) {
  let last = 0
  const emit = new Emitter((base) => `${base}#${last++}`)
  const known = (name: string) => {
    const tensor = feeds[name]
    if (tensor === undefined) throw new Error(`no feed "${name}"`)
    return tensor
  }
  const tensors = { dims: (name: string) => known(name).dims, dtype: (name: string) => known(name).dtype }
  const loss = lossOf(options)(emit, { prediction: 'prediction', target: 'target', labels: feeds['labels'] && 'labels', tensors })
  return { nodes: emit.nodes, constants: emit.initializers, loss }
}

export function doubles(dims: readonly number[], values: readonly number[]): Tensor {
  return { dtype: 'float64', dims, data: Float64Array.from(values) }
}

/** Seeded values in [-size, size) in double precision. */
export function random(dims: readonly number[], seed: number, size = 3): Tensor {
  return doubles(
    dims,
    Array.from(noise(dims, seed).data as Float32Array, (value) => value * size),
  )
}

/** The rows of a tensor over its last axis. */
export function rowsOf({ dims, data }: Tensor): number[][] {
  const width = dims.at(-1) as number
  const all = Array.from(data as Float64Array)
  return Array.from({ length: all.length / width }, (_, row) => all.slice(row * width, (row + 1) * width))
}

export function softmaxOf(scores: readonly number[], temperature = 1): number[] {
  const powers = scores.map((score) => Math.exp(score / temperature))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((power) => power / sum)
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length
}

/** Mean over rows of KL(p ‖ q). */
export function divergenceOf(p: number[][], q: number[][]): number {
  const terms = (row: number) => p[row]?.map((share, index) => (share === 0 ? 0 : share * Math.log(share / (q[row]?.[index] as number)))) as number[]
  return meanOf(p.map((_, row) => terms(row).reduce((a, b) => a + b, 0)))
}

/** Mean over labelled rows of −log p(label), smoothed; zero without any. */
export function crossEntropyOf(probabilities: number[][], labels: readonly number[], smoothing = 0): number {
  const losses = probabilities.flatMap((row, index) => {
    const label = labels[index] as number
    if (label < 0) return []
    const weights = row.map((_, one) => (one === label ? 1 - smoothing : 0) + smoothing / row.length)
    return [-weights.reduce((sum, weight, one) => sum + weight * Math.log(row[one] as number), 0)]
  })
  return losses.length === 0 ? 0 : meanOf(losses)
}
