// Mixed precision: where float16 is, that gradients are those of single precision but for rounding, and that nothing
// of it is seen from outside.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { Emitter } from '#flyweight/onnx/emitter.js'
import { tensorNames } from '#flyweight/onnx/names.js'
import { structuralCopy, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { autocast, type AutocastLevel } from '#flyweight/train/autocast.js'
import { emitBackward } from '#flyweight/train/backward.js'
import type { Tensors } from '#flyweight/train/gradient.js'
import { observeTensors } from '#flyweight/train/tensors.js'
import { floats, noise, run } from '../onnx/running.js'
import { convolutional, perceptron, visionTransformer } from './gradients/networks.js'

/** Distance from 1 to the next float16. */
const EPSILON = 2 ** -10

interface Graph {
  nodes: NodeProto[]
  feeds: Record<string, Tensor>
  constants?: TensorProto[]
  /** Default: all inputs but x. */
  parameters?: string[]
  wanted?: string[]
}

interface Casting {
  level: AutocastLevel
  emulated: boolean
}

const CASTINGS: Casting[] = (['products', 'graph'] as const).flatMap((level) => [false, true].map((emulated) => ({ level, emulated })))

const inputsOf = (feeds: Record<string, Tensor>) => Object.entries(feeds).map(([name, { dtype, dims }]) => valueInfo(name, dtype, dims))
const parametersOf = ({ feeds, parameters }: Graph) => parameters ?? Object.keys(feeds).filter((name) => name !== 'x' && feeds[name]?.dtype === 'float32')
const lastOf = ({ nodes }: Graph) => nodes.at(-1)?.output[0] as string

async function cast(graph: Graph, casting: Partial<Casting> = {}): Promise<Graph & { constants: TensorProto[]; tensors: Tensors }> {
  const { nodes, feeds, constants = [], wanted = [lastOf(graph)] } = graph
  const around = { inputs: inputsOf(feeds), outputs: [] }
  const plain = model({ ...around, nodes, initializers: constants })
  const result = autocast(nodes, {
    level: 'graph',
    emulated: false,
    ...casting,
    tensors: await observeTensors(plain, feeds),
    parameters: new Set(parametersOf(graph)),
    wanted: new Set(wanted),
    unique: tensorNames(plain),
  })
  const all = [...constants, ...result.initializers]
  return { feeds, nodes: result.nodes, constants: all, tensors: await observeTensors(model({ ...around, nodes: result.nodes, initializers: all }), feeds) }
}

/** Each node with the types of what it reads and writes, as `MatMul(float16, float16) float16`; Casts as `Cast(x) float16`. */
async function described(graph: Graph, casting: Partial<Casting> = {}): Promise<string[]> {
  const { nodes, tensors } = await cast(graph, casting)
  return nodes.map(({ opType, input, output }) => {
    const read = opType === 'Cast' ? input : input.map((name) => tensors.dtype(name))
    return `${opType}(${read.join(', ')}) ${tensors.dtype(output[0] as string)}`
  })
}

describe('float16', () => {
  const feeds = { x: noise([3, 4], 1), w: noise([4, 4], 2), b: noise([4], 3) }

  it('is what products read and write, each parameter cast once', async () => {
    const nodes = [node('MatMul', ['x', 'w'], ['y']), node('Add', ['y', 'b'], ['z']), node('Gemm', ['z', 'w', 'b'], ['u']), node('MatMul', ['u', 'w'], ['v'])]
    expect(await described({ nodes, feeds }, { level: 'products' })).toEqual([
      'Cast(x) float16',
      'Cast(w) float16',
      'MatMul(float16, float16) float16',
      'Cast(y::half) float32',
      'Add(float32, float32) float32',
      'Cast(z) float16',
      'Cast(b) float16',
      'Gemm(float16, float16, float16) float16',
      'MatMul(float16, float16) float16',
      'Cast(v::half) float32',
    ])
    expect(await described({ nodes, feeds }, { level: 'graph' })).toEqual([
      'Cast(x) float16',
      'Cast(w) float16',
      'MatMul(float16, float16) float16',
      'Cast(b) float16',
      'Add(float16, float16) float16',
      'Gemm(float16, float16, float16) float16',
      'MatMul(float16, float16) float16',
      'Cast(v::half) float32',
    ])
  })

  it('ends where a float32 value comes in, and at operators that need one', async () => {
    const nodes = [node('MatMul', ['x', 'w'], ['y']), node('Softmax', ['y'], ['p']), node('Add', ['p', 'y'], ['z']), node('Relu', ['z'], ['r'])]
    expect(await described({ nodes, feeds })).toEqual([
      'Cast(x) float16',
      'Cast(w) float16',
      'MatMul(float16, float16) float16',
      'Cast(y::half) float32',
      'Softmax(float32) float32',
      'Add(float32, float32) float32',
      'Relu(float32) float32',
    ])
  })

  it('begins before operators that round nothing, where only products read them', async () => {
    const before = (wanted: string[]) =>
      described({ nodes: [node('Softmax', ['x'], ['p']), node('Relu', ['p'], ['r']), node('MatMul', ['r', 'w'], ['y'])], feeds, wanted })
    expect(await before(['y'])).toEqual([
      'Softmax(float32) float32',
      'Cast(p) float16',
      'Relu(float16) float16',
      'Cast(w) float16',
      'MatMul(float16, float16) float16',
      'Cast(y::half) float32',
    ])
    expect(await before(['y', 'r'])).toContain('Relu(float32) float32')
  })

  it('takes constants in as they are rounded, but not those that it does not have', async () => {
    const constants = [
      tensorProto('third', 'float32', [], [1 / 3]),
      tensorProto('mask', 'float32', [4], [0, -1e9, 0, 0]),
      tensorProto('tiny', 'float32', [], [1e-6]),
    ]
    const follow = (constant: string) => described({ nodes: [node('MatMul', ['x', 'w'], ['y']), node('Add', ['y', constant], ['z'])], feeds, constants })
    expect(await follow('third')).toContain('Add(float16, float16) float16')
    expect(await follow('third')).not.toContain('Cast(third) float16')
    expect(await follow('mask')).toContain('Add(float32, float32) float32')
    expect(await follow('tiny')).toContain('Add(float32, float32) float32')
  })

  it('leaves the graph that it was given as it was', async () => {
    const nodes = [node('MatMul', ['x', 'w'], ['y']), node('Relu', ['y'], ['z'])]
    const before = structuralCopy(nodes)
    await cast({ nodes, feeds })
    expect(nodes).toEqual(before)
  })

  it('rounds and overflows on processors, too, when it is emulated', async () => {
    const graph = { nodes: [node('MatMul', ['x', 'w'], ['y'])], feeds: { x: floats([2, 1], [1 / 3, 300]), w: floats([1, 1], [300]) } }
    const { nodes, constants } = await cast(graph, { emulated: true })
    const whole = model({ inputs: inputsOf(graph.feeds), outputs: [valueInfo('y', 'float32', [2, 1])], nodes, initializers: constants })
    // 1/3 is 0.333251953125 in float16; near 100 its steps are 1/16.
    expect((await run(whole, graph.feeds, 'all'))['y']).toEqual(floats([2, 1], [100, Infinity]))
  })
})

const STEPS = {
  product: (x: string, y: string) => node('MatMul', [x, 'w'], [y]),
  bias: (x: string, y: string) => node('Add', [x, 'b'], [y]),
  sum: (x: string, y: string, other: string) => node('Add', [x, other], [y]),
  square: (x: string, y: string) => node('Mul', [x, x], [y]),
  relu: (x: string, y: string) => node('Relu', [x], [y]),
  transpose: (x: string, y: string) => node('Transpose', [x], [y]),
  softmax: (x: string, y: string) => node('Softmax', [x], [y]),
  largest: (x: string, y: string, other: string) => node('Max', [x, other, 'half'], [y]),
}

describe('any graph', () => {
  const kind = fc.constantFrom(...(Object.keys(STEPS) as (keyof typeof STEPS)[]))
  const plan = fc.array(fc.tuple(kind, fc.nat(), fc.nat()), { minLength: 1, maxLength: 10 })
  const feeds = {
    x: noise([4, 4], 5),
    w: floats(
      [4, 4],
      Array.from(noise([4, 4], 6).data as Float32Array, (value) => value / 2),
    ),
    b: noise([4], 7),
  }

  it('computes the same but for rounding, and nothing is cast twice, or back and forth', async () => {
    await fc.assert(
      fc.asyncProperty(plan, fc.constantFrom(...CASTINGS), async (steps, casting) => {
        const tensors = ['x']
        const nodes = steps.map(([step, from, other]) => {
          const pick = (index: number) => tensors[index % tensors.length] as string
          const made = STEPS[step](pick(from), `t${tensors.length}`, pick(other))
          tensors.push(`t${tensors.length}`)
          return made
        })
        const graph = { nodes, feeds, constants: [tensorProto('half', 'float32', [], [0.5])], wanted: tensors.slice(1) }
        const mixed = await cast(graph, casting)
        const outputs = graph.wanted.map((name) => valueInfo(name, 'float32', [4, 4]))
        const around = { inputs: inputsOf(feeds), outputs }
        const expected = await run(model({ ...around, nodes, initializers: graph.constants }), feeds)
        const got = await run(model({ ...around, nodes: mixed.nodes, initializers: mixed.constants }), feeds, 'all')
        for (const name of graph.wanted) {
          const scale = Math.max(1, ...Array.from(expected[name]?.data as Float32Array, Math.abs))
          const errors = Array.from(expected[name]?.data as Float32Array, (value, index) => Math.abs((got[name]?.data[index] as number) - value))
          expect(Math.max(...errors), name).toBeLessThan(16 * nodes.length * EPSILON * scale)
        }
        const casts = mixed.nodes.filter(({ opType }) => opType === 'Cast')
        expect(new Set(casts.map(({ input, output }) => `${input[0]} ${mixed.tensors.dtype(output[0] as string)}`)).size).toBe(casts.length)
        const made = new Set(casts.flatMap(({ output }) => output))
        if (!casting.emulated) expect(casts.filter(({ input }) => made.has(input[0] as string))).toEqual([])
      }),
      { numRuns: 60, seed: 11 },
    )
  })
})

/** By parameter, the gradient of the last node's output. */
async function gradientsOf(graph: Graph, casting?: Casting): Promise<Map<string, Float32Array>> {
  const { feeds } = graph
  const { nodes, constants, tensors } = await (casting === undefined ? single(graph) : cast(graph, casting))
  const inputs = inputsOf(feeds)
  const emit = new Emitter(tensorNames(model({ inputs, outputs: [], nodes, initializers: constants })))
  const gradients = emitBackward({ nodes, loss: lastOf(graph), wanted: parametersOf(graph), tensors, emit })
  const outputs = [...gradients].map(([name, gradient]) => valueInfo(gradient, 'float32', tensors.dims(name)))
  const results = await run(model({ inputs, outputs, nodes: [...nodes, ...emit.nodes], initializers: [...constants, ...emit.initializers] }), feeds, 'all')
  return new Map([...gradients].map(([name, gradient]) => [name, results[gradient]?.data as Float32Array]))
}

async function single(graph: Graph): Promise<Graph & { constants: TensorProto[]; tensors: Tensors }> {
  const { nodes, feeds, constants = [] } = graph
  return { ...graph, constants, tensors: await observeTensors(model({ inputs: inputsOf(feeds), outputs: [], nodes, initializers: constants }), feeds) }
}

/** Length of the difference in shares of the length. */
function distance(got: Float32Array, expected: Float32Array): number {
  const length = (values: readonly number[]) => Math.hypot(...values)
  return length(Array.from(expected, (value, index) => (got[index] as number) - value)) / length([...expected])
}

describe.each(Object.entries({ perceptron, convolutional, visionTransformer }))('gradients of a %s', (_, network) => {
  it.each(CASTINGS)('are those of single precision but for rounding: $level, emulated: $emulated', async (casting) => {
    const { emit, feeds } = network()
    const graph = { nodes: emit.nodes, feeds, constants: emit.initializers }
    const [exact, mixed] = [await gradientsOf(graph), await gradientsOf(graph, casting)]
    const distances = [...exact].map(([name, expected]) => [name, distance(mixed.get(name) as Float32Array, expected)] as const)
    for (const [name, one] of distances) expect(one, name).toBeLessThan(16 * EPSILON)
    // Rounding did take place.
    if (casting.emulated) expect(Math.max(...distances.map(([, one]) => one))).toBeGreaterThan(EPSILON / 16)
  })
})
