// Bias correction of int8-static: what is taken out of each bias is the mean shift that the rounding of weights makes,
// computed here in plain loops; kernels stay what they were.
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { node, tensorValues } from '#flyweight/onnx/builder.js'
import { GraphIndex } from '#flyweight/onnx/graph.js'
import type { NodeProto } from '#flyweight/onnx/proto.js'
import { compressed, executedOperators, network, noiseSamples, weights } from '../compressing.js'

const ROWS = 24
/** Not centred on zero, so that rounding of weights shifts outputs. */
function positiveSamples(rowDims: readonly number[]) {
  const samples = noiseSamples(rowDims, ROWS)
  const squared = (values: Float32Array) => values.map((value) => value ** 2)
  return { ...samples, take: (from: number, count: number) => ({ x: { ...samples.take(from, count)['x']!, data: squared(inputs(samples, from, count)) } }) }
}

function inputs(samples: ReturnType<typeof noiseSamples>, from = 0, count = ROWS): Float32Array {
  return samples.take(from, count)['x']!.data as Float32Array
}

/** A constant of a quantized model as the numbers that its codes stand for. */
function dequantized(model: Model, tensor: string): { values: number[]; dims: readonly number[] } {
  const index = new GraphIndex(model.graph)
  const reader = index.producer(tensor)
  if (reader?.opType !== 'DequantizeLinear') {
    const { data, dims } = index.constant(tensor)!
    return { values: Array.from(data as Float32Array, Number), dims }
  }
  const [codes, scales] = [index.constant(reader.input[0]!)!, index.constant(reader.input[1]!)!]
  const axis = Number(reader.attribute.find(({ name }) => name === 'axis')!.i)
  const inner = codes.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const values = Array.from(codes.data as Int8Array, (code, i) => code * Number(scales.data[Math.floor(i / inner) % scales.data.length]))
  return { values, dims: codes.dims }
}

const named = (model: Model, name: string): NodeProto => model.graph.node.find((one) => one.name === name)!

/** ΔW of node `name`: what its codes stand for, less the weights `w` of the source. */
function weightErrors(source: Model, variant: Model, name: string): number[] {
  const before = tensorValues(source.graph.initializer.find((one) => one.name === 'w')!).data as Float32Array
  return dequantized(variant, named(variant, name).input[1]!).values.map((value, i) => value - before[i]!)
}

async function both(source: Model, samples: ReturnType<typeof noiseSamples>): Promise<{ plain: Model; corrected: Model }> {
  const [{ model: plain }, { model: corrected }] = [
    await compressed(source, 'int8-static(biasCorrection=false)', samples),
    await compressed(source, 'int8-static(biasCorrection=true)', samples),
  ]
  return { plain, corrected }
}

function expectShift(actual: readonly number[], shift: readonly number[]): void {
  expect(Math.max(...shift.map(Math.abs))).toBeGreaterThan(5e-4)
  // Codes of biases are some 3e-5 apart.
  for (const [channel, value] of shift.entries()) expect(actual[channel]).toBeCloseTo(-value, 4)
}

describe('bias correction', () => {
  it.each([true, false])('takes the mean of ΔW ∗ x out of a padded, strided, grouped Conv (bias of its own: %s)', async (biased) => {
    const [groups, outputs, size, out] = [2, 6, 7, 4]
    const source = network(
      [4, size, size],
      ['n', outputs, out, out],
      [
        node('Conv', ['x', 'w', ...(biased ? ['b'] : [])], ['a'], { attributes: { pads: [1, 1, 1, 1], strides: [2, 2], group: groups } }),
        node('Softplus', ['a'], ['y']),
      ],
      [weights('w', [outputs, 2, 3, 3], { seed: 4 }), ...(biased ? [weights('b', [outputs], { seed: 5 })] : [])],
    )
    const samples = positiveSamples([4, size, size])
    const { plain, corrected } = await both(source, samples)
    const [x, errors] = [inputs(samples), weightErrors(source, corrected, 'a')]
    const shift = Array.from({ length: outputs }, (_, o) => {
      let sum = 0
      for (let row = 0; row < ROWS; row++)
        for (let oy = 0; oy < out; oy++)
          for (let ox = 0; ox < out; ox++)
            for (let c = 0; c < 2; c++)
              for (let ky = 0; ky < 3; ky++)
                for (let kx = 0; kx < 3; kx++) {
                  const [iy, ix] = [2 * oy + ky - 1, 2 * ox + kx - 1]
                  if (iy < 0 || ix < 0 || iy >= size || ix >= size) continue
                  const channel = Math.floor(o / (outputs / groups)) * 2 + c
                  sum += errors[((o * 2 + c) * 3 + ky) * 3 + kx]! * x[((row * 4 + channel) * size + iy) * size + ix]!
                }
      return sum / (ROWS * out * out)
    })
    const biasOf = (model: Model) => (named(model, 'a').input[2] === undefined ? [] : dequantized(model, named(model, 'a').input[2]!).values)
    expectShift(
      biasOf(corrected).map((value, channel) => value - (biasOf(plain)[channel] ?? 0)),
      shift,
    )
    expect((await executedOperators(corrected))['QLinearConv']).toBe(1)
  })

  it.each([
    { opType: 'Gemm', transB: true },
    { opType: 'Gemm', transB: false },
    { opType: 'MatMul', transB: false },
  ])('takes the mean of ΔW · x out of $opType (transB: $transB), or of what is added after it', async ({ opType, transB }) => {
    // MatMul on more than a matrix: the runtime would merge it with the Add else.
    const rowDims = opType === 'MatMul' ? [3, 12] : [12]
    const [inner, outer] = [12, 5]
    const w = weights('w', transB ? [outer, inner] : [inner, outer], { seed: 6 })
    const product =
      opType === 'Gemm'
        ? [node('Gemm', ['x', 'w', 'b'], ['h'], { name: 'h', attributes: { transB: Number(transB) } })]
        : [node('MatMul', ['x', 'w'], ['m']), node('Add', ['b', 'm'], ['h'])]
    const nodes = [...product, node('Softplus', ['h'], ['y'])]
    const source = network(rowDims, ['n', ...rowDims.slice(0, -1), outer], nodes, [w, weights('b', [outer], { seed: 7 })])
    const samples = positiveSamples(rowDims)
    const { plain, corrected } = await both(source, samples)
    const [x, errors] = [inputs(samples), weightErrors(source, corrected, opType === 'Gemm' ? 'h' : 'm')]
    const shift = Array.from({ length: outer }, (_, o) => {
      let sum = 0
      for (let row = 0; row < x.length / inner; row++)
        for (let i = 0; i < inner; i++) sum += errors[transB ? o * inner + i : i * outer + o]! * x[row * inner + i]!
      return sum / (x.length / inner)
    })
    const biasOf = (model: Model) => dequantized(model, named(model, 'h').input[opType === 'Gemm' ? 2 : 0]!).values
    expectShift(
      biasOf(corrected).map((value, channel) => value - biasOf(plain)[channel]!),
      shift,
    )
    expect(await executedOperators(corrected)).toEqual(await executedOperators(plain))
  })
})
