// Nodes added to look at inner tensors: whatever order they come in, a run must not keep all tensors alive.
import { describe, expect, it } from 'vitest'
import { observedModel } from '#flyweight/compress/calibration/observed-model.js'
import { node, valueInfo } from '#flyweight/onnx/builder.js'
import { network } from '../compressing.js'

const source = network([4], ['n', 4], [node('Abs', ['x'], ['a']), node('Neg', ['a'], ['b']), node('Exp', ['b'], ['y'])], [])
const observer = (tensor: string) => ({
  tensor,
  nodes: [node('Abs', [tensor], [`${tensor}.abs`]), node('ReduceMax', [`${tensor}.abs`], [`${tensor}.max`], { attributes: { keepdims: 0 } })],
  outputs: [valueInfo(`${tensor}.max`, 'float32', [])],
})

describe('observedModel', () => {
  it.each([[['x', 'a', 'b', 'y']], [['y', 'b', 'a', 'x']], [['b', 'x', 'y', 'a']]])(
    'puts what looks at early tensors last, inputs after all, asked for as %s',
    (tensors) => {
      const { graph } = observedModel(source, tensors.map(observer))
      const added = graph!.node.slice(source.graph.node.length).flatMap(({ output }) => output)
      expect(added).toEqual(['y.abs', 'y.max', 'b.abs', 'b.max', 'a.abs', 'a.max', 'x.abs', 'x.max'])
      expect(graph!.output.map(({ name }) => name)).toEqual(tensors.map((tensor) => `${tensor}.max`))
    },
  )

  it('leaves the model as it was', () => {
    observedModel(source, [observer('a')])
    expect(source.graph.node).toHaveLength(3)
    expect(source.graph.output.map(({ name }) => name)).toEqual(['y'])
  })
})
