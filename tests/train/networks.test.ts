// Networks that are built: what they take and give, and that a transformer computes what its description says.
import { describe, expect, it } from 'vitest'
import { tensorValues } from '#flyweight/onnx/builder.js'
import type { TensorProto } from '#flyweight/onnx/proto.js'
import { buildNetwork, type NetworkSpec } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { runTraining } from '#flyweight/train/training.js'
import type { Model } from '#flyweight/train/training-form.js'
import { noise, run } from '../onnx/running.js'

const transformer = { kind: 'transformer', width: 8, depth: 1, heads: 2, expansion: 2, patch: 2 } as const
const build = (spec: NetworkSpec, dims: number[]) => buildNetwork(spec, { input: { name: 'x', dims }, output: { name: 'scores', classes: 3 } }, 1)

it.each([
  [{ kind: 'mlp', hidden: [5] }, [4, 2]],
  [{ kind: 'cnn', channels: [4, 6], hidden: [] }, [2, 8, 8]],
  [transformer, [1, 6, 4]],
  [transformer, [5, 7]],
] as [NetworkSpec, number[]][])('%j takes rows of %j', async (spec, dims) => {
  const { scores } = await run(build(spec, dims), { x: noise([3, ...dims], 2) })
  expect(scores?.dims).toEqual([3, 3])
})

it.each([
  [{ kind: 'cnn', channels: [4], hidden: [] }, [8], '/student/kind: a cnn needs an input of channels, height and width, got rows of dims [8]'],
  [{ kind: 'cnn', channels: [4, 4], hidden: [] }, [1, 3, 3], '/student/channels: got 2 blocks, each of which halves the input of 3×3: it is too small'],
  [transformer, [8], '/student/kind: a transformer needs an input of channels, height and width, or of steps and features, got rows of dims [8]'],
  [transformer, [1, 5, 4], '/student/patch: got 2, expected a divisor of images of 5×4'],
  [{ ...transformer, heads: 3 }, [5, 7], '/student/heads: got 3, expected a divisor of the 8 features of a token'],
] as [NetworkSpec, number[], string][])('%j refuses rows of %j', (spec, dims, message) => {
  expect(() => build(spec, dims)).toThrow(message)
})

describe('a transformer', () => {
  it('computes attention and a perceptron on normalized tokens', async () => {
    const [tokens, features, width, heads] = [5, 7, 8, 2]
    const network = build(transformer, [tokens, features])
    const x = noise([1, tokens, features], 3)
    const scores = (await run(network, { x }))['scores']?.data as Float32Array
    const expected = reference(network, [...(x.data as Float32Array)], { tokens, width, heads })
    for (const [index, value] of expected.entries()) expect(scores[index]).toBeCloseTo(value, 4)
  })
})

it('a transformer learns where in a row something is', async () => {
  const [rows, tokens, features] = [800, 4, 3]
  const x = noise([rows, tokens, features], 8).data as Float32Array
  // Which step has the largest first feature: no mean over steps tells.
  const step = (row: number) => [0, 1, 2, 3].reduce((best, one) => (first(row, one) > first(row, best) ? one : best), 0)
  const first = (row: number, one: number) => x[(row * tokens + one) * features] as number
  const { best } = await runTraining({
    model: buildNetwork(
      { kind: 'transformer', width: 16, depth: 2, heads: 2, expansion: 2, patch: 1 },
      { input: { name: 'x', dims: [tokens, features] }, output: { name: 'scores', classes: tokens } },
      1,
    ),
    output: 'scores',
    data: {
      rows,
      read: (chosen) => ({
        x: {
          dtype: 'float32',
          dims: [chosen.length, tokens, features],
          data: Float32Array.from(chosen.flatMap((row) => [...x.subarray(row * tokens * features, (row + 1) * tokens * features)])),
        },
        labels: { dtype: 'int64', dims: [chosen.length], data: BigInt64Array.from(chosen, (row) => BigInt(step(row))) },
      }),
    },
    settings: completeSettings({ epochs: 30, batchSize: 32, learningRate: 0.01, holdOut: 0.2 }),
    threads: 1,
  })
  expect(best.heldOut.accuracy).toBeGreaterThan(0.85)
})

type Matrix = number[][]

/** The same network in plain loops. */
function reference(network: Model, x: number[], { tokens, width, heads }: { tokens: number; width: number; heads: number }): number[] {
  const stored = new Map(network.graph.initializer.map((proto) => [proto.name, proto]))
  const values = (name: string) => Array.from(tensorValues(stored.get(name) as TensorProto).data as Float32Array)
  const matrix = (all: number[], columns: number): Matrix =>
    Array.from({ length: all.length / columns }, (_, row) => all.slice(row * columns, (row + 1) * columns))
  const product = (a: Matrix, b: Matrix) =>
    a.map((row) => (b[0] as number[]).map((_, column) => row.reduce((sum, value, k) => sum + value * (b[k]?.[column] as number), 0)))
  const linear = (a: Matrix, name: string) => {
    const bias = values(`${name}.bias`)
    return product(a, matrix(values(`${name}.weight`), bias.length)).map((row) => row.map((value, column) => value + (bias[column] as number)))
  }
  const add = (a: Matrix, b: Matrix) => a.map((row, r) => row.map((value, c) => value + (b[r]?.[c] as number)))
  const norm = (a: Matrix) =>
    a.map((row) => {
      const mean = row.reduce((sum, value) => sum + value, 0) / row.length
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length
      return row.map((value) => (value - mean) / Math.sqrt(variance + 1e-5))
    })
  let at = add(linear(matrix(x, x.length / tokens), 'embedding'), matrix(values('positions'), width))
  const normalized = norm(at)
  const [query, key, value] = ['query', 'key', 'value'].map((part) => linear(normalized, `block1.${part}`)) as [Matrix, Matrix, Matrix]
  const size = width / heads
  const mixed: Matrix = at.map(() => [])
  for (let head = 0; head < heads; head++) {
    const part = (all: Matrix) => all.map((row) => row.slice(head * size, (head + 1) * size))
    const similarity = part(query).map((q) => part(key).map((k) => q.reduce((sum, one, index) => sum + one * (k[index] as number), 0) / Math.sqrt(size)))
    const shares = similarity.map((row) => {
      const sum = row.reduce((total, one) => total + Math.exp(one), 0)
      return row.map((one) => Math.exp(one) / sum)
    })
    product(shares, part(value)).forEach((row, index) => mixed[index]?.push(...row))
  }
  at = add(at, linear(mixed, 'block1.projection'))
  const gelu = (one: number) => 0.5 * one * (1 + erf(one / Math.SQRT2))
  at = add(
    at,
    linear(
      linear(norm(at), 'block1.expand').map((row) => row.map(gelu)),
      'block1.contract',
    ),
  )
  const means = norm(at).reduce(
    (sum, row) => sum.map((one, column) => one + (row[column] as number) / tokens),
    Array.from({ length: width }, () => 0),
  )
  const weights = matrix(values('dense1.weight'), width)
  return weights.map((row, index) => row.reduce((sum, one, column) => sum + one * (means[column] as number), values('dense1.bias')[index] as number))
}

/** Taylor series; exact enough for small arguments. */
function erf(x: number): number {
  let [term, sum] = [x, x]
  for (let n = 1; n < 60; n++) {
    term *= -(x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}
