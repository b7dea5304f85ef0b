// Fidelity of a variant against its source: exact scores where they are known, and detection of values that are not finite.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { evaluate } from '#flyweight/compress/evaluate.js'
import type { Model } from '#flyweight/compress/passes/pass.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { node, tensorProto } from '#flyweight/onnx/builder.js'
import { encodeModel, type NodeProto } from '#flyweight/onnx/proto.js'
import { floats } from '../onnx/running.js'
import { network, noiseSamples, weights, withFolder } from './compressing.js'

const of = (nodes: NodeProto[], rowDims: readonly number[] = [4]) =>
  network(rowDims, ['n', ...rowDims], nodes, [tensorProto('two', 'float32', [], [2]), tensorProto('minus', 'float32', [], [-1]), weights('w', [4])])
const product = of([node('Mul', ['x', 'w'], ['y'])])
const run = (source: Model, variant: Model, samples: Samples = noiseSamples([4], 20), batch = 8) =>
  withFolder(async (folder) => {
    const [sourceFile, variantFile] = [join(folder, 'source.onnx'), join(folder, 'variant.onnx')]
    await writeFile(sourceFile, encodeModel(source))
    await writeFile(variantFile, encodeModel(variant))
    return evaluate({ sourceFile, variantFile, samples, synthetic: false, batch, device: 'cpu', threads: 1 })
  })

describe('without labels', () => {
  it('gives 1 to the model itself', async () => {
    const { fidelity, finite } = await run(product, product)
    expect(finite).toBe(true)
    expect(fidelity).toMatchObject({ score: 1, samples: 20, synthetic: false, outputs: { y: { top1: 1, cosine: 1, sqnrDb: 200, maxError: 0 } } })
    expect(fidelity.definition).toContain('share of equal argmaxes')
    expect(fidelity.accuracy).toBeUndefined()
  })

  it('counts equal argmaxes of scores: their scale does not matter', async () => {
    const { fidelity } = await run(product, of([node('Mul', ['x', 'w'], ['h']), node('Mul', ['h', 'two'], ['y'])]))
    expect(fidelity.score).toBe(1)
    expect(fidelity.outputs['y']!.cosine).toBeCloseTo(1, 6)
    expect(fidelity.outputs['y']!.sqnrDb).toBeCloseTo(0, 3)
    expect((await run(product, of([node('Mul', ['x', 'w'], ['h']), node('Neg', ['h'], ['y'])]))).fidelity.score).toBe(0)
  })

  it('takes the cosine of outputs of other ranks, never below 0', async () => {
    const dims = [2, 2, 2]
    const [same, shifted, opposite] = [['Identity'], ['Abs'], ['Neg']].map(([opType]) => of([node(opType!, ['x'], ['y'])], dims)) as [Model, Model, Model]
    const samples = noiseSamples(dims)
    expect((await run(same, opposite, samples)).fidelity).toMatchObject({ score: 0, outputs: { y: { cosine: -1 } } })
    expect((await run(same, same, samples)).fidelity.score).toBe(1)
    const { score, outputs } = (await run(same, shifted, samples)).fidelity
    expect(score).toBe(outputs['y']!.cosine)
    expect(outputs['y']!.top1).toBeUndefined()
  })

  it('takes the cosine of recurrent state, which has no classes', async () => {
    const state: Samples = { rows: 1, digest: '', take: () => ({ x: floats([2, 1, 3], [1, 2, 3, 3, 2, 1]) }) }
    const variant = of([node('Mul', ['x', 'm'], ['y'])], [1, 3])
    variant.graph.initializer.push(tensorProto('m', 'float32', [3], [1, 2, 1]))
    const { score, outputs } = (await run(of([node('Identity', ['x'], ['y'])], [1, 3]), variant, state, 1)).fidelity
    expect(outputs['y']!.top1).toBeUndefined()
    expect(score).toBe(outputs['y']!.cosine)
  })

  it('is the same for any batch size', async () => {
    const variant = of([node('Mul', ['x', 'w'], ['h']), node('Round', ['h'], ['y'])])
    const [one, seven] = [await run(product, variant, noiseSamples([4]), 1), await run(product, variant, noiseSamples([4]), 7)]
    expect(seven.fidelity.score).toBe(one.fidelity.score)
    expect(seven.fidelity.outputs['y']!.sqnrDb).toBeCloseTo(one.fidelity.outputs['y']!.sqnrDb, 6)
  })

  it('survives JSON whatever the noise', async () => {
    const zero = of([node('Sub', ['x', 'x'], ['y'])])
    for (const [source, variant] of [
      [zero, product],
      [product, zero],
      [zero, zero],
    ] as const) {
      const { fidelity } = await run(source, variant)
      expect(JSON.parse(JSON.stringify(fidelity))).toEqual(fidelity)
      expect(fidelity.score).toBeLessThanOrEqual(1)
    }
  })
})

describe('divergence', () => {
  const given = (rows: number[][]): Samples => ({
    rows: rows.length,
    digest: 'given',
    take: (from, count) => ({ x: floats([count, rows[0]!.length], rows.slice(from, from + count).flat()) }),
  })
  const same = of([node('Identity', ['x'], ['y'])], [3])
  const kl = (p: number[], q: number[]) => p.reduce((sum, value, i) => sum + (value === 0 ? 0 : value * Math.log(value / q[i]!)), 0)

  it('compares distributions as they are', async () => {
    // The variant squares its rows: no distributions any more, and compared as they are too.
    const rows = [
      [0.2, 0.3, 0.5],
      [0, 1, 0],
    ]
    const { outputs } = (await run(same, of([node('Mul', ['x', 'x'], ['y'])], [3]), given(rows))).fidelity
    const expected = rows.map((row) =>
      kl(
        row,
        row.map((value) => value ** 2),
      ),
    )
    expect(outputs['y']!.klOf).toBe('probabilities')
    expect(outputs['y']!.kl).toBeCloseTo((expected[0]! + expected[1]!) / 2, 5)
  })

  it('compares the softmax of anything else', async () => {
    const row = [1, 2, 4]
    const softmax = (values: number[]) => values.map((value) => Math.exp(value) / values.reduce((sum, other) => sum + Math.exp(other), 0))
    const { outputs } = (await run(same, of([node('Mul', ['x', 'two'], ['y'])], [3]), given([row]))).fidelity
    expect(outputs['y']!.klOf).toBe('softmax')
    expect(outputs['y']!.kl).toBeCloseTo(kl(softmax(row), softmax(row.map((value) => 2 * value))), 5)
    expect((await run(same, same, given([row]))).fidelity.outputs['y']).toMatchObject({ kl: 0 })
  })

  it('is taken at each position of a sequence, as the argmax is', async () => {
    const sequence = of([node('Identity', ['x'], ['y'])], [2, 3])
    const first = of([node('Mul', ['x', 'm'], ['y'])], [2, 3])
    first.graph.initializer.push(tensorProto('m', 'float32', [2, 1], [1, -1]))
    const samples: Samples = { rows: 1, digest: '', take: () => ({ x: floats([1, 2, 3], [1, 2, 3, 1, 2, 3]) }) }
    const { outputs, score } = (await run(sequence, first, samples)).fidelity
    expect(score).toBe(0.5)
    expect(outputs['y']!.top1).toBe(0.5)
    expect(outputs['y']!.kl).toBeGreaterThan(0)
  })
})

describe('with labels', () => {
  const samples: Samples = {
    rows: 4,
    digest: 'labelled',
    labels: Int32Array.of(0, 1, 2, 0),
    take: (from, count) => ({ x: floats([count, 3], [9, 0, 1, 0, 9, 1, 0, 1, 9, 1, 9, 0].slice(3 * from, 3 * (from + count))) }),
  }
  const identity = of([node('Identity', ['x'], ['y'])], [3])
  const reversed = of([node('Neg', ['x'], ['y'])], [3])

  it('is accuracy relative to the source', async () => {
    const { fidelity } = await run(identity, reversed, samples, 3)
    // The source is right on 3 of 4 rows; the least values are at 1, 0, 0 and 2.
    expect(fidelity.accuracy).toEqual({ source: 0.75, variant: 0 })
    expect(fidelity.score).toBe(0)
    expect(fidelity.definition).toContain('correct labels')
  })

  it.each<[string, Partial<Samples>, RegExp]>([
    ['reach beyond the classes', { labels: [0, 1, 3, 0] }, /label is 3, but output "y" has classes 0 to 2/],
    ['belong to no row of scores', { take: (_, count) => ({ x: floats([count, 3, 1], new Array(count * 3).fill(1) as number[]) }) }, /"y" is \[4, 3, 1\]/],
  ])('says so when labels %s', async (_, changes, reason) => {
    const source = changes.take === undefined ? identity : of([node('Identity', ['x'], ['y'])], [3, 1])
    const { fidelity } = await run(source, source, { ...samples, ...changes })
    expect(fidelity.accuracy).toBeUndefined()
    expect(fidelity.labelsUnused).toMatch(reason)
    expect(fidelity.score).toBe(1)
  })

  it('gives no bonus for beating the source', async () => {
    const better = of([node('Mul', ['x', 'minus'], ['h']), node('Neg', ['h'], ['y'])], [3])
    expect((await run(identity, better, samples)).fidelity).toMatchObject({ score: 1, accuracy: { source: 0.75, variant: 0.75 } })
    expect((await run(reversed, identity, samples)).fidelity.score).toBeLessThanOrEqual(1)
  })
})

describe('finite', () => {
  it.each([
    ['infinite', [node('Exp', ['x'], ['e']), node('Div', ['e', 'zero'], ['y'])]],
    ['not a number', [node('Sub', ['x', 'x'], ['d']), node('Div', ['d', 'zero'], ['y'])]],
  ])('is false for a variant whose values are %s', async (_, nodes) => {
    const variant = network([4], ['n', 4], nodes, [tensorProto('zero', 'float32', [], [0])])
    const { finite, fidelity } = await run(product, variant)
    expect(finite).toBe(false)
    expect(fidelity.score).toBeLessThanOrEqual(1)
  })

  it('does not blame a variant for what the source does too', async () => {
    const infinite = network([4], ['n', 4], [node('Exp', ['x'], ['e']), node('Div', ['e', 'zero'], ['y'])], [tensorProto('zero', 'float32', [], [0])])
    expect(await run(infinite, infinite)).toMatchObject({ finite: true, fidelity: { score: 1 } })
  })
})
