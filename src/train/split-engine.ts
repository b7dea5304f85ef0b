// A training step in two graphs, gradients and update, with the gradients in between in plain memory: so a batch can be
// computed in parts, and devices without Loop can train.
import { encodeModel } from '../onnx/proto.js'
import { openSession } from '../runtime/session.js'
import { copyRows } from '../tensor/rows.js'
import type { Tensor } from '../tensor/tensor.js'
import { buildStep, STATE, type StepOptions } from './step.js'
import { carriedFeeds, carriedResults, type Batch, type StepEngine, type TrainState } from './step-engine.js'
import { gradientGraph, readByGradient, updateGraph } from './step-graphs.js'

export interface SplitOptions extends Omit<StepOptions, 'batch'> {
  /** The rows of one part. */
  batch: Batch
  /** Parts of equal size that a batch is computed in, one after the other. */
  parts: number
}

/**
 * @throws FlyweightError as buildStep does
 */
export async function openSplitEngine({ parts, ...options }: SplitOptions, session: { device?: string; threads?: number }): Promise<StepEngine> {
  const step = await buildStep(options)
  const { state } = step
  const [gradients] = step.gradients as [string]
  const gradient = await openSession(encodeModel(gradientGraph(step, options.batch)), session)
  const update = await openSession(encodeModel(updateGraph(step)), session)

  const carriedNames = state.filter(readByGradient).map(({ before }) => before)
  const moving = state.find(({ name }) => name === STATE.statistics)?.before

  const one = async (from: TrainState, batch: Batch, learningRate: number) => {
    const sum = { gradients: new Float32Array(options.form.parameters.count), loss: 0 }
    const before = carriedFeeds(state, from, (each) => each.before)
    const read = Object.fromEntries(carriedNames.map((name) => [name, before[name] as Tensor]))
    for (const part of partsOf(batch, parts)) {
      const results = await gradient.run({ ...read, ...part })
      addTo(sum.gradients, results[gradients]?.data as Float32Array)
      sum.loss += Number(results[step.loss]?.data[0])
      if (moving !== undefined) read[moving] = results[step.statistics as string] as Tensor
    }
    if (parts > 1) for (let at = 0; at < sum.gradients.length; at++) sum.gradients[at]! /= parts
    const results = await update.run({
      ...before,
      [gradients]: { dtype: 'float32', dims: [sum.gradients.length], data: sum.gradients },
      [step.learningRate]: { dtype: 'float32', dims: [], data: Float32Array.of(learningRate) },
      ...(moving === undefined ? {} : { [step.statistics as string]: read[moving] as Tensor }),
    })
    return { state: carriedResults(state, results, from.step + 1, ({ after }) => after), loss: sum.loss / parts }
  }
  return {
    state,
    async advance(from, batches, learningRates) {
      const losses = new Float32Array(batches.length)
      let current = from
      for (const [index, batch] of batches.entries()) {
        const next = await one(current, batch, learningRates[index] as number)
        current = next.state
        losses[index] = next.loss
      }
      return { state: current, losses }
    },
    release: async () => {
      await gradient.release()
      await update.release()
    },
  }
}

/** The rows of a batch in parts of equal size. */
export function partsOf(batch: Batch, parts: number): Batch[] {
  if (parts === 1) return [batch]
  return Array.from({ length: parts }, (_, part) =>
    Object.fromEntries(
      Object.entries(batch).map(([name, tensor]) => {
        const rows = (tensor.dims[0] as number) / parts
        return [name, copyRows(tensor, part * rows, (part + 1) * rows)]
      }),
    ),
  )
}

function addTo(sum: Float32Array, values: Float32Array): void {
  for (let at = 0; at < sum.length; at++) sum[at]! += values[at] as number
}
