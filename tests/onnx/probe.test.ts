import { describe, expect, it } from 'vitest'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { probeShapes, type ProbeRun } from '#flyweight/onnx/probe.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { noise } from './running.js'

const run: ProbeRun = async (bytes, feeds, fetches) => {
  const session = await openSession(bytes, { optimization: 'disabled' })
  try {
    return await session.run(feeds, fetches)
  } finally {
    await session.release()
  }
}

describe('probeShapes', () => {
  const branch = (name: string) => graph({ inputs: [], outputs: [valueInfo(name, 'float32', ['n', 4])], nodes: [node('Neg', ['b'], [name])] })
  const subject = model({
    inputs: [valueInfo('x', 'float32', ['n', 3])],
    outputs: [valueInfo('y', 'float32', ['n', 4])],
    nodes: [
      node('MatMul', ['x', 'w'], ['a']),
      node('Relu', ['a'], ['b']),
      node('Shape', ['b'], ['s']),
      node('If', ['c'], ['y'], { attributes: { then_branch: branch('t'), else_branch: branch('e') } }),
      node('SequenceConstruct', ['a'], ['sequence']),
      node('ConcatFromSequence', ['sequence'], ['back'], { attributes: { axis: 0 } }),
    ],
    initializers: [tensorProto('w', 'float32', [3, 4], [...noise([3, 4]).data].map(Number)), tensorProto('c', 'bool', [], [1])],
  })

  it('sees every tensor and which dims vary, and leaves the model as it was', async () => {
    const before = encodeModel(subject)
    const probed = await probeShapes(subject, [{ x: noise([1, 3]) }, { x: noise([2, 3]) }], run)
    expect(Object.fromEntries(probed)).toEqual({
      w: { dtype: 'float32', dims: [3, 4] },
      c: { dtype: 'bool', dims: [] },
      x: { dtype: 'float32', dims: [-1, 3] },
      a: { dtype: 'float32', dims: [-1, 4] },
      b: { dtype: 'float32', dims: [-1, 4] },
      s: { dtype: 'int64', dims: [2] },
      y: { dtype: 'float32', dims: [-1, 4] },
      back: { dtype: 'float32', dims: [-1, 4] },
    })
    expect(encodeModel(subject)).toEqual(before)
  })

  it('with one feed set takes every dim as fixed', async () => {
    expect((await probeShapes(subject, [{ x: noise([5, 3]) }], run)).get('b')).toEqual({ dtype: 'float32', dims: [5, 4] })
  })
})
