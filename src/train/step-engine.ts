// What takes training from step to step: an interface, as steps can run in one graph, in two, or on many machines; and
// how state becomes tensors and comes back.
import type { Tensor } from '../tensor/tensor.js'
import { STATE, type Carried, type CarriedState } from './step.js'
import type { TrainingForm } from './training-form.js'

/** Columns of the rows of one step. */
export type Batch = Readonly<Record<string, Tensor>>

/** All that a further step depends on. */
export interface TrainState {
  /** Steps done. */
  step: number
  /** By name (step.ts): flat vectors; scalars have one element. */
  vectors: Readonly<Record<string, Float32Array<ArrayBuffer>>>
}

export interface Advance {
  state: TrainState
  /** One a step. */
  losses: Float32Array
}

export interface StepEngine {
  /** What is carried from step to step. */
  readonly state: readonly Carried[]
  /** What comes out depends on where runs end, except at multiples of so many steps; default: 1, it does not. */
  readonly syncEvery?: number
  /** Takes one step for each batch, with the learning rate of the same index. `from` stays as it is. */
  advance(from: TrainState, batches: readonly Batch[], learningRates: readonly number[]): Promise<Advance>
  release(): Promise<void>
}

/** The state before the first step. */
export function initialState({ initial }: TrainingForm, carried: readonly Carried[]): TrainState {
  const values = carried.filter(({ name }) => name !== STATE.step).map(({ name, count, initial: value }) => [name, new Float32Array(count ?? 1).fill(value)])
  const vectors = Object.fromEntries(values) as Record<string, Float32Array<ArrayBuffer>>
  return {
    step: 0,
    vectors: { ...vectors, [STATE.parameters]: initial.parameters, ...(STATE.statistics in vectors ? { [STATE.statistics]: initial.statistics } : {}) },
  }
}

/** A state as the tensors that a graph takes under the names that `inputOf` gives. */
export function carriedFeeds(carried: readonly CarriedState[], { step, vectors }: TrainState, inputOf: (one: CarriedState) => string): Record<string, Tensor> {
  return Object.fromEntries(
    carried.map((one) => {
      const data = one.name === STATE.step ? Float32Array.of(step) : (vectors[one.name] as Float32Array<ArrayBuffer>)
      return [inputOf(one), { dtype: 'float32', dims: one.count === undefined ? [] : [data.length], data }]
    }),
  )
}

/** The state that a graph put out under the names that `outputOf` gives. */
export function carriedResults(
  carried: readonly CarriedState[],
  results: Readonly<Record<string, Tensor>>,
  step: number,
  outputOf: (one: CarriedState) => string,
): TrainState {
  const vectors = carried.filter(({ name }) => name !== STATE.step).map((one) => [one.name, results[outputOf(one)]?.data as Float32Array<ArrayBuffer>])
  return { step, vectors: Object.fromEntries(vectors) }
}

/** Dims of the tensor that holds carried state. */
export function dimsOf({ count }: Carried): number[] {
  return count === undefined ? [] : [count]
}
