// State in parts and whole again, for any way that tensors are divided.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { layoutOf } from '#flyweight/train/parameters.js'
import { cutState, joinStates } from '#flyweight/train/pipeline/stage-state.js'

const tensors = fc.array(fc.record({ size: fc.integer({ min: 1, max: 5 }), stage: fc.integer({ min: 0, max: 2 }) }), { minLength: 1, maxLength: 8 })

it('is the same after it was cut and joined, and each stage has its own', () => {
  fc.assert(
    fc.property(tensors, tensors, (parameters, statistics) => {
      const layout = (of: typeof parameters, stage?: number) =>
        layoutOf(of.flatMap((one, index) => (stage === undefined || one.stage === stage ? [{ name: `t${index}`, dims: [one.size] }] : [])))
      const of = (stage?: number) => ({ parameters: layout(parameters, stage), statistics: layout(statistics, stage) })
      const [whole, parts] = [of(), [0, 1, 2].map((stage) => of(stage))]
      const counted = (count: number, from: number) => Float32Array.from({ length: count }, (_, at) => from + at)
      const [count, moving] = [whole.parameters.count, whole.statistics.count]
      const carried = [
        { name: 'parameters', count, initial: 0 },
        { name: 'statistics', count: moving, initial: 0 },
        { name: 'step', count: undefined, initial: 0 },
        { name: 'loss_scale', count: undefined, initial: 1 },
        { name: 'momentum', count, initial: 0 },
      ]
      const vectors = { parameters: counted(count, 1), statistics: counted(moving, 1000), loss_scale: Float32Array.of(8), momentum: counted(count, 2000) }
      const state = { step: 5, vectors }
      const cut = parts.map((part) => cutState(state, carried, { whole, part }))
      for (const [stage, { vectors: own }] of cut.entries()) {
        expect(own['momentum']?.length).toBe(parts[stage]?.parameters.count)
        expect(own['momentum']).toEqual(own['parameters']?.map((value) => value + 1999))
      }
      expect(joinStates(cut, carried, { whole, parts })).toEqual(state)
    }),
  )
})
