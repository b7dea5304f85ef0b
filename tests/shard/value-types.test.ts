// Declarations of values, from observations made up for it: which names of sizes are kept.
import { expect, it } from 'vitest'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import type { ObservedTensor } from '#flyweight/runtime/observe-tensors.js'
import { valueTypes } from '#flyweight/shard/value-types.js'

it('keeps names of the inputs, not those that the runtime makes up; no shape where the rank varies', () => {
  const { graph } = model({
    inputs: [valueInfo('x', 'float32', ['n', 4])],
    outputs: [valueInfo('y', 'float32', ['n', 4])],
    nodes: [node('Relu', ['x'], ['y'])],
  })
  const seen = (dims: number[][], inferred: (number | string)[]): ObservedTensor => ({ dtype: 'float32', dims, inferred })
  const typeOf = valueTypes(
    graph,
    new Map([
      [
        'x',
        seen(
          [
            [1, 4],
            [2, 4],
          ],
          ['n', 4],
        ),
      ],
      [
        'a',
        seen(
          [
            [5, 1],
            [5, 2],
          ],
          ['unk__0', 'n'],
        ),
      ],
      ['b', seen([[1], [1, 2]], [])],
    ]),
  )
  const shapeOf = (name: string) => {
    const type = typeOf(name)?.type?.value
    return type?.case === 'tensorType' ? type.value.shape?.dim.map(({ value }) => value.value ?? null) : 'no tensor'
  }
  expect(shapeOf('a')).toEqual([null, 'n'])
  expect(shapeOf('b')).toBe(undefined)
  expect(shapeOf('z')).toBe('no tensor')
})
