// Residual blocks found and left out: of a transformer, of a convolutional network that ends blocks with ReLU, and of one
// that has none.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { model as makeModel, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { shrinkDepth } from '#flyweight/train/shrink-depth.js'
import { observeTensors } from '#flyweight/train/tensors.js'
import type { Model } from '#flyweight/train/training-form.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise, run } from '../onnx/running.js'

const transformer = (depth: number) =>
  buildNetwork(
    { kind: 'transformer', width: 8, depth, heads: 2, expansion: 2, patch: 2 },
    { input: { name: 'x', dims: [5, 7] }, output: { name: 'scores', classes: 3 } },
    1,
  )

/** Blocks relu(x + conv(x)), each with its own kernel; the output is the last block's. */
function residual(blocks: number): Model {
  const kernels = Array.from({ length: blocks }, (_, index) =>
    tensorProto(`k${index}`, 'float32', [2, 2, 3, 3], noise([36], index + 1).data as Float32Array<ArrayBuffer>),
  )
  return makeModel({
    inputs: [valueInfo('x', 'float32', ['n', 2, 4, 4])],
    outputs: [valueInfo(`r${blocks - 1}`, 'float32', ['n', 2, 4, 4])],
    nodes: [
      node('Relu', ['x'], ['r']),
      ...Array.from({ length: blocks }, (_, index) => {
        const from = index === 0 ? 'r' : `r${index - 1}`
        return [
          node('Conv', [from, `k${index}`], [`c${index}`], { attributes: { pads: [1, 1, 1, 1] } }),
          node('Add', [`c${index}`, from], [`a${index}`]),
          node('Relu', [`a${index}`], [`r${index}`]),
        ]
      }).flat(),
    ],
    initializers: kernels,
  })
}

async function shrunk(model: Model, feeds: Record<string, Tensor>, depth: number) {
  const { dims } = await observeTensors(model, feeds)
  return shrinkDepth(model, dims, depth)
}

describe('a transformer', () => {
  const feeds = { x: noise([2, 5, 7], 3) }

  it('loses attention and perceptron of a block together', async () => {
    const { model, dropped, blocks } = await shrunk(transformer(4), feeds, 0.5)
    expect(blocks).toBe(4)
    expect(dropped).toEqual(['block2.attended', 'block2', 'block3.attended', 'block3'])
    expect(model.graph.node.filter(({ opType }) => opType === 'Softmax')).toHaveLength(2)
    expect(model.graph.initializer.some(({ name }) => name.startsWith('block2.'))).toBe(false)
    expect((await run(model, feeds))['scores']?.dims).toEqual([2, 3])
  })

  it('computes what it would if the blocks left out added nothing', async () => {
    const whole = transformer(3)
    const silent = (name: string) => /^block2\.(projection|contract)\.(weight|bias)$/.test(name)
    for (const tensor of whole.graph.initializer) if (silent(tensor.name)) tensor.rawData = new Uint8Array(tensor.rawData.length)
    const { model, dropped } = await shrunk(whole, feeds, 0.67)
    expect(dropped).toEqual(['block2.attended', 'block2'])
    expect((await run(model, feeds))['scores']?.data).toEqual((await run(whole, feeds))['scores']?.data)
  })

  it('of one block keeps it', async () => {
    await expect(shrunk(transformer(1), feeds, 0.5)).rejects.toThrow(
      '/student/depth: got 0.5, expected residual blocks, x → … → Add(x, …) with weights in between, of which some can go; found 1: "block1"',
    )
  })
})

describe('a convolutional network', () => {
  const feeds = { x: noise([1, 2, 4, 4], 3) }

  it.each([
    [5, 0.6, ['r1', 'r3']],
    [5, 0.2, ['r1', 'r2', 'r3', 'r4']],
    [2, 0.5, ['r1']],
  ])('of %i blocks keeps %d, evenly spread', async (blocks, depth, expected) => {
    const whole = residual(blocks)
    const { model, dropped } = await shrunk(whole, feeds, depth)
    expect(dropped).toEqual(expected)
    expect(model.graph.node.filter(({ opType }) => opType === 'Conv')).toHaveLength(blocks - expected.length)
    expect(Object.keys(await run(model, feeds))).toEqual([`r${blocks - 1}`])
    expect(whole.graph.node).toHaveLength(3 * blocks + 1)
  })

  it('of any number of blocks keeps the share asked for, the first and the last among it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 12 }), fc.double({ min: 0.01, max: 0.99, noNaN: true }), (blocks, depth) => {
        const kept = Math.max(1, Math.round(blocks * depth))
        fc.pre(kept < blocks)
        const { model } = shrinkDepth(residual(blocks), () => [1, 2, 4, 4], depth)
        const left = model.graph.node.flatMap(({ opType, input }) => (opType === 'Conv' ? [Number(input[1]?.slice(1))] : []))
        expect(left).toHaveLength(kept)
        expect(left[0]).toBe(0)
        if (kept > 1) expect(left.at(-1)).toBe(blocks - 1)
        const gaps = left.slice(1).map((block, index) => block - (left[index] as number))
        if (gaps.length > 0) expect(Math.max(...gaps) - Math.min(...gaps)).toBeLessThanOrEqual(1)
      }),
    )
  })

  it('keeps what the others compute', async () => {
    const { model } = await shrunk(residual(3), feeds, 0.67)
    const first = await run(residual(1), feeds)
    const third = residual(1)
    third.graph.initializer = [tensorProto('k0', 'float32', [2, 2, 3, 3], noise([36], 3).data as Float32Array<ArrayBuffer>)]
    const expected = await run(third, { x: first['r0'] as Tensor })
    expect((await run(model, feeds))['r2']?.data).toEqual(expected['r0']?.data)
  })
})

it('a network without blocks is refused with what it has', async () => {
  const plain = buildNetwork({ kind: 'mlp', hidden: [4] }, { input: { name: 'x', dims: [3] }, output: { name: 'y', classes: 2 } }, 1)
  await expect(shrunk(plain, { x: noise([1, 3]) }, 0.5)).rejects.toThrow('found none among 0 Add nodes')
})

it('an approximation of Gelu is no block', async () => {
  const nodes = [node('Mul', ['x', 'c'], ['scaled']), node('Add', ['x', 'scaled'], ['y'])]
  const gelu = makeModel({
    inputs: [valueInfo('x', 'float32', ['n', 3])],
    outputs: [valueInfo('y', 'float32', ['n', 3])],
    nodes,
    initializers: [tensorProto('c', 'float32', [3], [1, 2, 3])],
  })
  await expect(shrunk(gelu, { x: noise([1, 3]) }, 0.5)).rejects.toThrow('found none among 1 Add nodes')
})
