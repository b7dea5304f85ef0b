// Pass int8-dynamic: the numbers against a float64 reference, the kernels that the runtime makes of it,
// and what is left alone, with its reason.
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { node, tensorProto, tensorValues } from '#flyweight/onnx/builder.js'
import type { TensorProto } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { compressed, executedOperators, fidelityOf, network, noiseSamples, operators, outputs, weights } from '../compressing.js'

const [K, N] = [48, 40]
const dynamic = (source: Model, recipe = 'int8-dynamic') => compressed(source, recipe, noiseSamples([K]))
const reasonsOf = async (source: Model, recipe?: string) =>
  Object.fromEntries((await dynamic(source, recipe)).decisions.map(({ node: name, reason }) => [name, reason]))

/** Σ x·w in float64, and the most that quantizing both may change it: each factor is off by at most half a step. */
function reference(x: Tensor, w: TensorProto, { transposed = false, alpha = 1 } = {}): { values: number[]; bounds: number[] } {
  const [a, b] = [x.data as Float32Array, tensorValues(w).data as Float32Array]
  const weight = (k: number, n: number) => alpha * (transposed ? b[n * K + k]! : b[k * N + n]!)
  const stepX = (Math.max(0, ...a) - Math.min(0, ...a)) / 255
  const [values, bounds]: [number[], number[]] = [[], []]
  for (let row = 0; row < a.length / K; row++) {
    for (let n = 0; n < N; n++) {
      const column = Array.from({ length: K }, (_, k) => weight(k, n))
      const stepW = Math.max(...column.map(Math.abs)) / 127
      let [sum, bound] = [0, 1e-5]
      column.forEach((factor, k) => {
        const value = a[row * K + k]!
        sum += value * factor
        // The zero point is rounded too, which moves the ends of the range by half a step.
        bound += stepX * Math.abs(factor) + (Math.abs(value) + stepX) * (stepW / 2)
      })
      values.push(sum)
      bounds.push(bound)
    }
  }
  return { values, bounds }
}

describe('numbers', () => {
  const bias = weights('b', [N], { seed: 3 })
  it.each([
    { name: 'MatMul', made: node('MatMul', ['x', 'w'], ['y']), dims: [K, N], inputDims: [3, K] },
    { name: 'MatMul of three dimensions', made: node('MatMul', ['x', 'w'], ['y']), dims: [K, N], inputDims: [2, 5, K] },
    { name: 'Gemm', made: node('Gemm', ['x', 'w', 'b'], ['y']), dims: [K, N], inputDims: [3, K], biased: true },
    {
      name: 'Gemm transB',
      made: node('Gemm', ['x', 'w', 'b'], ['y'], { attributes: { transB: 1 } }),
      dims: [N, K],
      inputDims: [3, K],
      biased: true,
      transposed: true,
    },
    {
      name: 'Gemm alpha',
      made: node('Gemm', ['x', 'w'], ['y'], { attributes: { transB: 1, alpha: { float: -0.3 } } }),
      dims: [N, K],
      inputDims: [3, K],
      transposed: true,
      alpha: Math.fround(-0.3),
    },
  ])('of $name are within the steps of both factors', async ({ made, dims, inputDims, biased, ...how }) => {
    const w = weights('w', dims, { seed: 2 })
    const rank3 = inputDims.length === 3
    const source = network(
      inputDims.slice(1).map((_, axis) => `d${axis}`),
      rank3 ? ['n', 'd0', N] : ['n', N],
      [made],
      biased ? [w, bias] : [w],
    )
    const { model, decisions } = await dynamic(source)
    expect(decisions).toMatchObject([{ node: 'y', action: 'done' }])
    const x = noise(inputDims, 7)
    const { y } = await outputs(model, { x })
    expect(y!.dims).toEqual([...inputDims.slice(0, -1), N])
    const { values, bounds } = reference(x, w, how)
    const shift = biased ? (tensorValues(bias).data as Float32Array) : undefined
    const worst = Math.max(...values.map((value, i) => Math.abs(Number(y!.data[i]) - value - (shift?.[i % N] ?? 0)) / bounds[i]!))
    expect(worst).toBeLessThan(1)
  })

  it('follow inputs that are small, large, or of one sign', async () => {
    const source = network([K], ['n', N], [node('MatMul', ['x', 'w'], ['y'])], [weights('w', [K, N], { seed: 2 })])
    const { model } = await dynamic(source)
    for (const change of [(v: number) => v * 1e-4, (v: number) => v * 1e4, (v: number) => v + 3]) {
      const x: Tensor = { dtype: 'float32', dims: [2, K], data: (noise([2, K], 4).data as Float32Array<ArrayBuffer>).map(change) }
      const { values, bounds } = reference(x, tensorValuesProto(source))
      const { y } = await outputs(model, { x })
      values.forEach((value, i) => expect(Math.abs(Number(y!.data[i]) - value)).toBeLessThan(bounds[i]!))
    }
  })
})

function tensorValuesProto({ graph }: Model): TensorProto {
  return graph.initializer.find(({ name }) => name === 'w')!
}

describe('graph', () => {
  const mlp = network(
    [K],
    ['n', N],
    [
      node('Gemm', ['x', 'w1', 'b1'], ['h1'], { attributes: { transB: 1 } }),
      node('Relu', ['h1'], ['r1']),
      node('MatMul', ['r1', 'w2'], ['h2']),
      node('MatMul', ['h2', 'w2'], ['h3']),
      node('Add', ['h3', 'b1'], ['y']),
    ],
    [weights('w1', [N, K]), weights('b1', [N]), weights('w2', [N, N], { seed: 5, size: 0.2 })],
  )

  it('has integer kernels and no float product left once the runtime has fused it', async () => {
    const { model, decisions } = await dynamic(mlp)
    const kernels = await executedOperators(model)
    const integer = (kernels['DynamicQuantizeMatMul'] ?? 0) + (kernels['MatMulIntegerToFloat'] ?? 0)
    expect(integer).toBe(3)
    for (const left of ['MatMul', 'Gemm', 'FusedGemm', 'FusedMatMul', 'MatMulInteger']) expect(kernels[left]).toBeUndefined()
    expect(decisions.map(({ node: name, action }) => [name, action])).toEqual([
      ['h1', 'done'],
      ['r1', 'skipped'],
      ['h2', 'done'],
      ['h3', 'done'],
      ['y', 'skipped'],
    ])
  })

  it('of a product fed by a product is valid, and close', async () => {
    const { model } = await dynamic(mlp)
    expect(await fidelityOf(mlp, model, [K])).toBeGreaterThan(35)
  })

  it('quantizes a shared input once, and keeps a shared weight shared', async () => {
    const source = network(
      [K],
      ['n', K],
      [node('MatMul', ['x', 'w'], ['a']), node('MatMul', ['x', 'v'], ['b']), node('Mul', ['a', 'b'], ['c']), node('MatMul', ['c', 'w'], ['y'])],
      [weights('w', [K, K], { size: 0.1 }), weights('v', [K, K], { seed: 9, size: 0.1 })],
    )
    const { model } = await dynamic(source)
    expect(operators(model.graph.node)['DynamicQuantizeLinear']).toBe(2)
    expect(model.graph.initializer.filter(({ dataType }) => dataType === 3).length).toBe(2)
    expect(model.graph.initializer.some(({ name }) => name === 'w' || name === 'v')).toBe(false)
    expect(await fidelityOf(source, model, [K])).toBeGreaterThan(30)
  })

  it('takes no name that the model has already', async () => {
    const source = network(
      [K],
      ['n', K],
      [
        node('Mul', ['x', 'x::scale'], ['x::q'], { name: 'p' }),
        node('MatMul', ['x::q', 'w'], ['p'], { name: 'first' }),
        node('MatMul', ['x', 'w'], ['q']),
        node('Add', ['p', 'q'], ['y']),
      ],
      [weights('w', [K, K], { size: 0.1 }), tensorProto('x::scale', 'float32', [], [0.5])],
    )
    const { model } = await dynamic(source)
    expect(await fidelityOf(source, model, [K])).toBeGreaterThan(30)
    const twice = await dynamic(source, 'int8-dynamic(exclude=q)+int8-dynamic')
    expect(operators(twice.model.graph.node)['MatMulInteger']).toBe(2)
    expect(await fidelityOf(source, twice.model, [K])).toBeGreaterThan(30)
  })

  it('leaves the model it was given as it was, and gives the same bytes again', async () => {
    const before = mlp.graph.node.map(({ opType }) => opType)
    const [first, second] = [await dynamic(mlp), await dynamic(mlp)]
    expect(mlp.graph.node.map(({ opType }) => opType)).toEqual(before)
    expect(second.model).toEqual(first.model)
  })
})

describe('left in float', () => {
  it('gives the reason for each node', async () => {
    const source = network(
      [K],
      ['n', K],
      [
        node('MatMul', ['x', 'small'], ['a']),
        node('MatMul', ['x', 'w'], ['b'], { name: 'chosen' }),
        node('MatMul', ['x', 'w'], ['c'], { name: '' }),
        node('Gemm', ['a', 'v', 'z'], ['d'], { attributes: { beta: { float: 0.5 } } }),
        node('MatMul', ['stack', 'x3'], ['e']),
        node('Unsqueeze', ['x', 'axis'], ['x3']),
        node('ReduceMean', ['e'], ['f'], { attributes: { keepdims: 0 } }),
        node('Sum', ['b', 'c', 'd', 'f'], ['y']),
      ].sort((p, q) => order.indexOf(p.output[0]!) - order.indexOf(q.output[0]!)),
      [
        weights('small', [K, 4]),
        weights('w', [K, K]),
        weights('v', [4, K]),
        weights('z', [K]),
        weights('stack', [1, 8, 1]),
        tensorProto('axis', 'int64', [1], [1]),
      ],
    )
    const reasons = await reasonsOf(source, 'int8-dynamic(exclude=chosen)')
    expect(reasons).toMatchObject({
      a: '192 weights are fewer than 1024: int8 would not pay for converting its input',
      chosen: 'excluded by the recipe',
      c: 'weights in int8',
      e: 'its right operand is not constant',
    })
    expect(Object.keys(reasons).sort()).toEqual(['a', 'c', 'chosen', 'd', 'e', 'f', 'x3', 'y'])
    expect(await reasonsOf(source, 'int8-dynamic(minWeights=0,exclude=c)')).toMatchObject({
      a: 'weights in int8',
      c: 'excluded by the recipe',
      d: 'it scales its bias',
    })
  })

  it('includes stacks of weights and other types', async () => {
    const source = network([8, K], ['n', 8, K], [node('MatMul', ['x', 'w'], ['y'])], [weights('w', [8, K, K])])
    expect(await reasonsOf(source)).toEqual({ y: 'its weights have rank 3, not 2' })
  })
})

const order = ['a', 'b', 'c', 'd', 'x3', 'e', 'f', 'y']
