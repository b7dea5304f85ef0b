// What static quantization makes of arithmetic around convolutions: folded, or read off the codes; and what it
// must leave alone. Models are built by hand; the float model run by the runtime is the reference.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { passNamed } from '#flyweight/compress/passes/table.js'
import { canonicalRules } from '#flyweight/compress/quantize/canonical.js'
import { uint8Params, uint8ParamsWithZero } from '#flyweight/compress/quantize/affine.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import { graph as makeGraph, model as makeModel, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel, structuralCopy, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import { rewrite } from '#flyweight/onnx/rewrite.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

const CHANNELS = 8
const ROWS = 16
let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'canonical-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** Deterministic values in ±range. */
function noise(count: number, seed: number, range = 1): Float32Array<ArrayBuffer> {
  let state = seed
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 31 - 1) * range
  })
}

const scalar = (name: string, value: number) => tensorProto(name, 'float32', [], [value])
const filter = (name: string, kernel: number, seed: number, group = 1) =>
  tensorProto(name, 'float32', [CHANNELS, CHANNELS / group, kernel, kernel], noise((CHANNELS * CHANNELS * kernel * kernel) / group, seed, 0.5))
const padded = { pads: [1, 1, 1, 1], kernel_shape: [3, 3] }

function build(nodes: readonly NodeProto[], initializers: readonly TensorProto[]) {
  return makeModel({
    inputs: [valueInfo('x', 'float32', ['n', CHANNELS, 6, 6])],
    outputs: [valueInfo('y', 'float32', ['n', CHANNELS, 6, 6])],
    nodes,
    initializers,
  })
}

const samples = {
  rows: ROWS,
  digest: '',
  take: (from: number, count: number): Record<string, Tensor> => ({
    x: { dtype: 'float32', dims: [count, CHANNELS, 6, 6], data: noise(ROWS * CHANNELS * 36, 7, 3).slice(from * CHANNELS * 36, (from + count) * CHANNELS * 36) },
  }),
}

async function outputOf(model: ReturnType<typeof build>): Promise<Float32Array> {
  const session = await openSession(encodeModel(model))
  try {
    return (await session.run(samples.take(0, ROWS)))['y']!.data as Float32Array
  } finally {
    await session.release()
  }
}

async function quantize(model: ReturnType<typeof build>) {
  const [step] = parseRecipe('int8-static').recipe!
  const result = await passNamed('int8-static')!.run(model, step!, {
    loadOriginal: () => Promise.resolve(model),
    device: 'cpu',
    samples,
    maxBatch: ROWS,
    threads: 1,
    workDir: folder,
  })
  const file = join(folder, 'optimized.onnx')
  const session = await openSession(encodeModel(result.model), { optimizedModelFile: file })
  await session.release()
  const operators: Record<string, number> = {}
  for (const { opType } of (await loadModel(file)).graph.node) operators[opType] = (operators[opType] ?? 0) + 1
  return { ...result, operators }
}

/** Signal to noise in dB. */
function fidelity(want: Float32Array, got: Float32Array): number {
  let [signal, error] = [0, 0]
  want.forEach((value, i) => {
    signal += value ** 2
    error += (value - got[i]!) ** 2
  })
  return 10 * Math.log10(signal / error)
}

/** Conv → 1.3 x + 0.2 → hard-swish in four nodes → 0.7 x + `shift` → padded depthwise Conv → Conv, as PP-OCR has it. */
function mobileBlock(shift: number) {
  return build(
    [
      node('Conv', ['x', 'w1'], ['c1']),
      node('Mul', ['s1', 'c1'], ['m1']),
      node('Add', ['m1', 'b1'], ['a1']),
      node('Add', ['a1', 'three'], ['a3']),
      node('Clip', ['a3', 'zero', 'six'], ['gate']),
      node('Mul', ['a1', 'gate'], ['p']),
      node('Div', ['p', 'six'], ['swish']),
      node('Mul', ['swish', 's2'], ['m2']),
      node('Add', ['m2', 'b2'], ['a2']),
      node('Conv', ['a2', 'w2'], ['c2'], { attributes: { ...padded, group: CHANNELS } }),
      node('Conv', ['c2', 'w3'], ['c3']),
      node('Conv', ['c3', 'w3'], ['y']),
    ],
    [
      filter('w1', 1, 1),
      filter('w2', 3, 2, CHANNELS),
      filter('w3', 1, 3),
      ...[scalar('s1', 1.3), scalar('b1', 0.2), scalar('three', 3), scalar('zero', 0), scalar('six', 6), scalar('s2', 0.7), scalar('b2', shift)],
    ],
  )
}

describe('canonical form', () => {
  it('means the same, with what follows a Conv folded and hard-sigmoid named', async () => {
    const before = mobileBlock(-0.2)
    const after = structuralCopy(before)
    rewrite(after, canonicalRules)
    const [want, got] = [await outputOf(before), await outputOf(after)]
    expect(fidelity(want, got)).toBeGreaterThan(110)
    expect(after.graph.node.map(({ opType }) => opType)).toEqual(['Conv', 'HardSigmoid', 'Mul', 'Mul', 'Add', 'Conv', 'Conv', 'Conv'])
  })

  it('folds a factor and a summand a channel, but not along other axes', () => {
    const perChannel = tensorProto('k', 'float32', [CHANNELS, 1, 1], noise(CHANNELS, 5))
    const perColumn = tensorProto('k', 'float32', [6], noise(6, 5))
    const count = (constant: TensorProto) => {
      const built = build([node('Conv', ['x', 'w1'], ['c']), node('Sub', ['c', 'k'], ['y'])], [filter('w1', 1, 1), constant])
      rewrite(built, canonicalRules)
      return built.graph.node.length
    }
    expect([count(perChannel), count(perColumn)]).toEqual([1, 2])
  })

  it('leaves a Conv alone whose output something else reads', () => {
    const built = build(
      [node('Conv', ['x', 'w1'], ['c']), node('Mul', ['c', 's'], ['m']), node('Add', ['m', 'c'], ['y'])],
      [filter('w1', 1, 1), scalar('s', 2)],
    )
    rewrite(built, canonicalRules)
    expect(built.graph.node.map(({ opType }) => opType)).toEqual(['Conv', 'Mul', 'Add'])
  })
})

describe('static int8 of a mobile block', () => {
  it.each([-0.2, 0.15])('spends one addition and one product on it, shift %f included', async (shift) => {
    const { model, operators } = await quantize(mobileBlock(shift))
    expect(operators).toMatchObject({ QLinearConv: 3, QLinearAdd: 1, QLinearMul: 1 })
    expect(fidelity(await outputOf(mobileBlock(shift)), await outputOf(model))).toBeGreaterThan(28)
  })

  it('computes a shift that no zero point can stand for', async () => {
    const { model, operators } = await quantize(mobileBlock(40))
    expect(operators['QLinearAdd']).toBe(2)
    expect(fidelity(await outputOf(mobileBlock(40)), await outputOf(model))).toBeGreaterThan(28)
  })
})

describe('zero points for shifted readings', () => {
  it('put both zeros on a code', () => {
    const params = uint8ParamsWithZero({ min: -0.4, max: 5 }, 0.3)!
    expect(Math.abs(0.3 / params.scale - Math.round(0.3 / params.scale))).toBeLessThanOrEqual(0.1)
    expect(params.scale).toBeLessThanOrEqual(uint8Params({ min: -0.4, max: 5 }).scale * 1.1)
  })

  it('are refused where they would cost resolution', () => {
    expect(uint8ParamsWithZero({ min: 0, max: 1 }, -4)).toBeUndefined()
  })
})

describe('what static int8 must leave alone', () => {
  it('a value that a subgraph reads', async () => {
    const branch = (name: string, op: string) =>
      makeGraph({ name, inputs: [], outputs: [valueInfo(`${name}_out`, 'float32', ['n', CHANNELS, 6, 6])], nodes: [node(op, ['r'], [`${name}_out`])] })
    const built = build(
      [
        node('Conv', ['x', 'w1'], ['c']),
        node('Relu', ['c'], ['r']),
        node('ReduceMax', ['x'], ['most'], { attributes: { keepdims: 0 } }),
        node('Greater', ['most', 'limit'], ['which']),
        node('If', ['which'], ['chosen'], { attributes: { then_branch: branch('then', 'Neg'), else_branch: branch('else', 'Abs') } }),
        node('Conv', ['r', 'w3'], ['c3']),
        node('Add', ['chosen', 'c3'], ['y']),
      ],
      [filter('w1', 1, 1), filter('w3', 1, 3), scalar('limit', 0.5)],
    )
    const { model, decisions } = await quantize(built)
    expect(fidelity(await outputOf(built), await outputOf(model))).toBeGreaterThan(28)
    expect(decisions.filter(({ action }) => action === 'done')).not.toHaveLength(0)
  })

  it('a Gemm that scales its bias', async () => {
    const built = makeModel({
      inputs: [valueInfo('x', 'float32', ['n', CHANNELS, 6, 6])],
      outputs: [valueInfo('y', 'float32', ['n', 4])],
      nodes: [node('Flatten', ['x'], ['f']), node('Gemm', ['f', 'w', 'b'], ['y0'], { attributes: { beta: { float: 3 } } }), node('Relu', ['y0'], ['y'])],
      initializers: [tensorProto('w', 'float32', [CHANNELS * 36, 4], noise(CHANNELS * 36 * 4, 9)), tensorProto('b', 'float32', [4], noise(4, 10))],
    })
    const { model, decisions } = await quantize(built)
    expect(decisions.find(({ opType }) => opType === 'Gemm')).toMatchObject({ action: 'skipped', reason: 'it scales its product or bias' })
    expect(await outputOf(model)).toEqual(await outputOf(built))
  })
})

it('weights that two nodes share stay shared', async () => {
  const built = build(
    [node('Conv', ['x', 'w1'], ['c1']), node('Conv', ['c1', 'w1'], ['c2']), node('Conv', ['c2', 'w3'], ['c3']), node('Relu', ['c3'], ['y'])],
    [filter('w1', 1, 1), filter('w3', 1, 3)],
  )
  const { model } = await quantize(built)
  const weights = model.graph.initializer.filter(({ dataType, dims }) => dataType === 3 && dims.length === 4)
  expect(weights).toHaveLength(2)
})
