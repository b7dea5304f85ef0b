import { describe, it } from 'vitest'
import { node } from '#flyweight/onnx/builder.js'
import { noise } from '../../onnx/running.js'
import { checkGradients } from '../gradient-check.js'

describe('MatMul', () => {
  it.each<[number[], number[]]>([
    [
      [2, 3],
      [3, 4],
    ],
    [
      [5, 2, 3],
      [3, 4],
    ],
    [
      [2, 3],
      [5, 3, 4],
    ],
    [
      [2, 1, 2, 3],
      [3, 3, 2],
    ],
    [[3], [3, 2]],
    [[2, 3], [3]],
    [[4, 2, 3], [3]],
    [[3], [2, 3, 4]],
    [[3], [3]],
  ])('of %j and %j', async (a, b) => {
    await checkGradients({ nodes: [node('MatMul', ['a', 'b'], ['y'])], feeds: { a: noise(a, 1), b: noise(b, 2) } })
  })
})

describe('Gemm', () => {
  const flags = [0, 1].flatMap((transA) => [0, 1].map((transB) => ({ transA, transB })))
  it.each(flags)('with %j, α and β', async ({ transA, transB }) => {
    const attributes = { transA, transB, alpha: { float: 0.7 }, beta: { float: 1.5 } }
    const feeds = { a: noise(transA ? [3, 2] : [2, 3], 1), b: noise(transB ? [4, 3] : [3, 4], 2), c: noise([4], 3) }
    await checkGradients({ nodes: [node('Gemm', ['a', 'b', 'c'], ['y'], { attributes })], feeds })
  })
  it('without C', async () => {
    await checkGradients({ nodes: [node('Gemm', ['a', 'b'], ['y'])], feeds: { a: noise([2, 3], 1), b: noise([3, 2], 2) } })
  })
})
