// The state of a training in the parts that stages hold, and whole again.
import type { Layout } from '../parameters.js'
import { STATE, type Carried } from '../step.js'
import type { TrainState } from '../step-engine.js'
import type { Vector } from './messages.js'

export interface StageLayouts {
  parameters: Layout
  statistics: Layout
}

/** What a stage starts from; vectors are new, scalars are every stage's. */
export function cutState(state: TrainState, carried: readonly Carried[], { whole, part }: { whole: StageLayouts; part: StageLayouts }): TrainState {
  const vectors = carried
    .filter(({ name }) => name !== STATE.step)
    .map(({ name, count }): [string, Vector] => {
      const vector = state.vectors[name] as Vector
      if (count === undefined) return [name, vector.slice()]
      const cut = new Float32Array(layoutOf(name, part).count)
      for (const { from, to, length } of runsOf(layoutOf(name, whole), layoutOf(name, part))) cut.set(vector.subarray(from, from + length), to)
      return [name, cut]
    })
  return { step: state.step, vectors: Object.fromEntries(vectors) }
}

/** The whole from what stages ended with. A vector that a stage has nothing of may be missing there. */
export function joinStates(
  states: readonly TrainState[],
  carried: readonly Carried[],
  { whole, parts }: { whole: StageLayouts; parts: readonly StageLayouts[] },
): TrainState {
  const vectors = carried
    .filter(({ name }) => name !== STATE.step)
    .map(({ name, count }): [string, Vector] => {
      if (count === undefined) return [name, states[0]?.vectors[name] as Vector]
      const joined = new Float32Array(count)
      for (const [stage, part] of parts.entries()) {
        const vector = states[stage]?.vectors[name]
        if (vector === undefined) continue
        for (const { from, to, length } of runsOf(layoutOf(name, whole), layoutOf(name, part))) joined.set(vector.subarray(to, to + length), from)
      }
      return [name, joined]
    })
  return { step: states[0]?.step as number, vectors: Object.fromEntries(vectors) }
}

/** Slots of the optimizer lie as the parameters do. */
function layoutOf(name: string, { parameters, statistics }: StageLayouts): Layout {
  return name === STATE.statistics ? statistics : parameters
}

function runsOf(whole: Layout, part: Layout): { from: number; to: number; length: number }[] {
  const places = new Map(whole.tensors.map(({ name, offset }) => [name, offset]))
  return part.tensors.map(({ name, offset, count }) => ({ from: places.get(name) as number, to: offset, length: count }))
}
