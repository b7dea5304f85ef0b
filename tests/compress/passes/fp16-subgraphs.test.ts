// Pass fp16 on graphs inside If and Loop, on inputs and outputs, and on Casts that the source has already.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { allGraphs } from '#flyweight/onnx/graph.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { float16From, float32FromFloat16 } from '#flyweight/tensor/float16.js'
import { dtypes, type Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { compressed, network, noiseSamples, operators, outputs, sqnr, weights } from '../compressing.js'

const [FLOAT, HALF] = [dtypes.float32.onnx, dtypes.float16.onnx]
const none = noiseSamples([1], 1)
const halved = (source: Model, recipe = 'fp16(search=false)', samples: Samples = none) => compressed(source, recipe, samples)
const flag = (value: number): Tensor => ({ dtype: 'bool', dims: [], data: Uint8Array.of(value) })
const result = (name: string) => [valueInfo(name, 'float32', ['n', 8])]
/** Types of all stored tensors, sorted. */
const stored = (of: Model) =>
  [...allGraphs(of.graph)]
    .flatMap(({ graph: { initializer } }) => initializer.filter(({ dims }) => dims.length > 0).map(({ dataType }) => dataType))
    .sort((a, b) => a - b)
const inner = (of: Model, name: string) => of.graph.node.find((one) => one.name === name)!.attribute.map(({ g }) => g!)

describe('If', () => {
  const branch = (name: string, seed: number) =>
    graph({
      name,
      inputs: [],
      outputs: result(`${name}_y`),
      nodes: [node('MatMul', ['a', 'shared'], [`${name}_p`]), node('MatMul', [`${name}_p`, `${name}_w`], [`${name}_y`])],
      initializers: [weights(`${name}_w`, [8, 8], { seed })],
    })
  const source = model({
    inputs: [valueInfo('x', 'float32', ['n', 8]), valueInfo('flag', 'bool', [])],
    outputs: result('y'),
    nodes: [
      node('MatMul', ['x', 'shared'], ['a']),
      node('If', ['flag'], ['b'], { name: 'choice', attributes: { then_branch: branch('t', 2), else_branch: branch('e', 3) } }),
      node('MatMul', ['b', 'shared'], ['y']),
    ],
    initializers: [weights('shared', [8, 8])],
  })
  const closeness = async (variant: Model) => {
    const found: number[] = []
    for (const value of [0, 1]) {
      const feeds = { x: noise([3, 8]), flag: flag(value) }
      found.push(sqnr((await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!))
    }
    return Math.min(...found)
  }

  it('computes in half precision inside, and hands halves in and out', async () => {
    const { model: variant, decisions } = await halved(source)
    expect(stored(variant)).toEqual([HALF, HALF, HALF])
    expect(operators([...allGraphs(variant.graph)].flatMap(({ graph: one }) => one.node))).toEqual({ Cast: 2, MatMul: 6, If: 1 })
    expect(Object.fromEntries(decisions.map(({ node: name, action }) => [name, action]))).toEqual({
      a: 'done',
      choice: 'skipped',
      'choice/then_branch/t_p': 'done',
      'choice/then_branch/t_y': 'done',
      'choice/else_branch/e_p': 'done',
      'choice/else_branch/e_y': 'done',
      y: 'done',
    })
    expect(await closeness(variant)).toBeGreaterThan(50)
  })

  it('hands float32 out where one branch does', async () => {
    const { model: variant, decisions } = await halved(source, 'fp16(search=false,exclude=choice/else_branch/e_y)')
    expect(decisions.find(({ node: name }) => name === 'choice/else_branch/e_y')).toMatchObject({ action: 'skipped', reason: 'excluded by the recipe' })
    expect(inner(variant, 'choice').map(({ node: nodes }) => operators(nodes))).toEqual([
      { MatMul: 2, Cast: 1 },
      { MatMul: 2, Cast: 1 },
    ])
    expect(await closeness(variant)).toBeGreaterThan(50)
  })

  it('stays float32 inside where it is excluded', async () => {
    const { model: variant, decisions } = await halved(source, 'fp16(search=false,exclude=choice)')
    expect(decisions.find(({ node: name }) => name === 'choice/then_branch/t_p')).toMatchObject({
      action: 'skipped',
      reason: 'it is inside "choice": excluded by the recipe',
    })
    expect(stored(variant)).toEqual([FLOAT, FLOAT, FLOAT, HALF])
    expect(await closeness(variant)).toBeGreaterThan(50)
  })

  it('keeps a node in a branch that ruins the outputs in float32, found by the search', async () => {
    const ruinous = graph({
      name: 'e',
      inputs: [],
      outputs: result('e_y'),
      nodes: [node('Mul', ['a', 'large'], ['e_p']), node('Div', ['e_p', 'large'], ['e_y'])],
      initializers: [tensorProto('large', 'float32', [1, 1], [60000])],
    })
    const overflowing = model({
      inputs: [valueInfo('x', 'float32', ['n', 8]), valueInfo('flag', 'bool', [])],
      outputs: result('y'),
      nodes: [
        node('MatMul', ['x', 'shared'], ['a']),
        node('If', ['flag'], ['y'], { name: 'choice', attributes: { then_branch: branch('t', 2), else_branch: ruinous } }),
      ],
      initializers: [weights('shared', [8, 8])],
    })
    const samples: Samples = { rows: 4, digest: 'noise', take: (from, count) => ({ x: noise([count, 8], from), flag: flag(0) }) }
    const { decisions } = await halved(overflowing, 'fp16', samples)
    const kept = decisions.filter(({ action, opType }) => action === 'skipped' && opType !== 'If').map(({ node: name }) => name)
    expect(kept.length).toBeGreaterThan(0)
    for (const name of kept) expect(name).toMatch(/^choice\/else_branch\//)
  })
})

it('Loop computes in half precision inside, its state goes round in float32', async () => {
  const body = graph({
    name: 'body',
    inputs: [valueInfo('round', 'int64', []), valueInfo('going', 'bool', []), valueInfo('state', 'float32', ['n', 8])],
    outputs: [valueInfo('still', 'bool', []), valueInfo('next', 'float32', ['n', 8])],
    nodes: [node('MatMul', ['state', 'w'], ['p']), node('Add', ['p', 'a'], ['s']), node('Tanh', ['s'], ['next']), node('Identity', ['going'], ['still'])],
  })
  const source = model({
    inputs: [valueInfo('x', 'float32', ['n', 8])],
    outputs: result('y'),
    nodes: [node('MatMul', ['x', 'w'], ['a']), node('Loop', ['rounds', 'always', 'a'], ['y'], { name: 'loop', attributes: { body } })],
    initializers: [weights('w', [8, 8], { size: 0.3 }), tensorProto('rounds', 'int64', [], [3]), tensorProto('always', 'bool', [], Uint8Array.of(1))],
  })
  const { model: variant } = await halved(source)
  expect(stored(variant)).toEqual([HALF])
  expect(operators(inner(variant, 'loop')[0]!.node)).toEqual({ Cast: 2, Gemm: 1, Tanh: 1, Identity: 1 })
  const feeds = { x: noise([3, 8]) }
  expect(sqnr((await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!)).toBeGreaterThan(50)
})

it('Scan computes in half precision inside, over rows that it takes in float32', async () => {
  const body = graph({
    name: 'body',
    inputs: [valueInfo('state', 'float32', [8]), valueInfo('row', 'float32', [8])],
    outputs: [valueInfo('next', 'float32', [8]), valueInfo('out', 'float32', [8])],
    nodes: [node('Mul', ['row', 'w'], ['p']), node('Add', ['p', 'state'], ['s']), node('Tanh', ['s'], ['next']), node('Sub', ['next', 'w'], ['out'])],
  })
  const source = model({
    inputs: [valueInfo('x', 'float32', ['n', 8])],
    outputs: [valueInfo('last', 'float32', [8]), ...result('y')],
    nodes: [node('Scan', ['start', 'x'], ['last', 'y'], { name: 'scan', attributes: { body, num_scan_inputs: 1 } })],
    initializers: [weights('w', [8]), weights('start', [8], { seed: 4 })],
  })
  const { model: variant, decisions } = await halved(source)
  expect(decisions.filter(({ action }) => action === 'done').map(({ node: name }) => name)).toEqual(
    ['p', 's', 'next', 'out'].map((name) => `scan/body/${name}`),
  )
  const feeds = { x: noise([5, 8]) }
  const [before, after] = [await outputs(source, feeds), await outputs(variant, feeds)]
  for (const name of ['last', 'y']) expect(sqnr(before[name]!, after[name]!)).toBeGreaterThan(50)
})

it('LSTM computes in float32 from weights stored in half precision', async () => {
  const source = model({
    inputs: [valueInfo('x', 'float32', [5, 'n', 8])],
    outputs: [valueInfo('y', 'float32', [5, 1, 'n', 16])],
    nodes: [node('LSTM', ['x', 'w', 'r', 'b'], ['y'], { attributes: { hidden_size: 16 } })],
    initializers: [weights('w', [1, 64, 8]), weights('r', [1, 64, 16]), weights('b', [1, 128])],
  })
  const { model: variant, decisions } = await halved(source)
  expect(stored(variant)).toEqual([HALF, HALF, HALF])
  expect(decisions).toMatchObject([{ action: 'done', reason: 'computes in float32 from weights stored in half precision' }])
  const feeds = { x: noise([5, 2, 8]) }
  expect(sqnr((await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!)).toBeGreaterThan(50)
})

describe('Casts of the source', () => {
  const to = (type: number) => ({ attributes: { to: type } })
  const source = network(
    [8],
    ['n', 8],
    [
      node('MatMul', ['x', 'w'], ['a']),
      node('Cast', ['a'], ['h'], to(HALF)),
      node('Mul', ['h', 'k'], ['m']),
      node('Cast', ['m'], ['f'], to(FLOAT)),
      node('MatMul', ['f', 'w'], ['b']),
      node('Cast', ['b'], ['c'], to(HALF)),
      node('Cast', ['c'], ['y'], to(FLOAT)),
    ],
    [weights('w', [8, 8]), tensorProto('k', 'float16', [1], float16From(Float32Array.of(0.5)))],
  )
  const feeds = { x: noise([4, 8]) }

  it('between float32 and half go, but for those at the borders', async () => {
    const { model: variant, decisions } = await halved(source)
    expect(operators(variant.graph.node)).toEqual({ Cast: 2, MatMul: 2, Mul: 1 })
    for (const { name } of source.graph.node) expect(decisions.filter((decision) => decision.node === name)).toHaveLength(1)
    expect(sqnr((await outputs(source, feeds))['y']!, (await outputs(variant, feeds))['y']!)).toBeGreaterThan(50)
  })

  it('still round where what they read stays float32', async () => {
    const { model: variant } = await halved(source, 'fp16(search=false,exclude=a|b)')
    const y = (await outputs(variant, feeds))['y']!.data as Float32Array
    expect([...y]).toEqual([...float32FromFloat16(float16From(y))])
    expect(sqnr((await outputs(source, feeds))['y']!, { dtype: 'float32', dims: [4, 8], data: Float32Array.from(y) })).toBeGreaterThan(50)
  })
})

describe('io=float16', () => {
  const source = network([8], ['n', 8], [node('MatMul', ['x', 'w'], ['a']), node('Max', ['a', 'w0'], ['y'])], [weights('w', [8, 8]), weights('w0', [8])])

  it('takes and gives half precision under the same names', async () => {
    const { model: variant } = await halved(source, 'fp16(search=false,io=float16)')
    const session = await openSession(encodeModel(variant))
    await session.release()
    expect([...session.inputs, ...session.outputs].map(({ name, dtype }) => [name, dtype])).toEqual([
      ['x', 'float16'],
      ['y', 'float16'],
    ])
    const x = noise([4, 8])
    const half: Tensor = { dtype: 'float16', dims: x.dims, data: float16From(x.data as Float32Array) }
    const { y } = await outputs(variant, { x: half })
    const actual: Tensor = { dtype: 'float32', dims: y!.dims, data: float32FromFloat16(y!.data as Uint16Array) }
    expect(sqnr((await outputs(source, { x }))['y']!, actual)).toBeGreaterThan(50)
    // float32 is rounded on the way in.
    expect((await outputs(variant, { x }))['y']!.data).toEqual(y!.data)
  })

  it('works where an input is an output, or is read in float32', async () => {
    const through = network([8], ['n', 8], [node('Max', ['x', 'w0'], ['y'])], [weights('w0', [8])])
    through.graph.output.push(...result('x'))
    const { model: variant } = await halved(through, 'fp16(search=false,io=float16)')
    const got = await outputs(variant, { x: noise([4, 8]) })
    expect(Object.values(got).map(({ dtype }) => dtype)).toEqual(['float16', 'float16'])
  })
})

describe('Silero VAD', () => {
  const file = fileURLToPath(new URL('../../../node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx', import.meta.url))
  const speech = (row: number, rate: 8000 | 16000): Record<string, Tensor> => {
    const length = rate === 16000 ? 576 : 288
    const hiss = noise([length], row).data as Float32Array
    const data = Float32Array.from({ length }, (_, i) => {
      const t = (row * length + i) / rate
      const voice = [1, 2, 3, 4, 5].reduce((sum, harmonic) => sum + Math.sin(2 * Math.PI * 140 * harmonic * t) / harmonic, 0)
      return 0.15 * voice * (0.5 + 0.5 * Math.sin(8 * Math.PI * t)) + 0.01 * hiss[i]!
    })
    const sr: Tensor = { dtype: 'int64', dims: [], data: BigInt64Array.of(BigInt(rate)) }
    return { input: { dtype: 'float32', dims: [1, length], data }, state: { dtype: 'float32', dims: [2, 1, 128], data: new Float32Array(256) }, sr }
  }

  it('is half the size, and as sure of speech, at either rate', async () => {
    const source = await loadModel(file)
    const samples: Samples = { rows: 4, digest: 'speech', take: (from) => speech(from, from % 2 === 0 ? 16000 : 8000), alike: () => 1 }
    const { model: variant, decisions } = await compressed(source, 'fp16', samples, 1)
    expect(encodeModel(variant).length).toBeLessThan(0.52 * encodeModel(source).length)
    const [before, after] = [await openSession(file), await openSession(encodeModel(variant))]
    for (const rate of [8000, 16000] as const) {
      let [want, got] = [speech(0, rate)['state']!, speech(0, rate)['state']!]
      for (let row = 0; row < 12; row++) {
        const { sr, input } = speech(row, rate) as { sr: Tensor; input: Tensor }
        const [expected, actual] = [await before.run({ sr, input, state: want }), await after.run({ sr, input, state: got })]
        expect(Math.abs(Number(expected['output']!.data[0]) - Number(actual['output']!.data[0]))).toBeLessThan(0.01)
        ;[want, got] = [expected['stateN']!, actual['stateN']!]
      }
    }
    await before.release()
    await after.release()
    expect(new Set(decisions.map(({ node: name }) => name)).size).toBe(decisions.length)
  })

  it('is no larger after simplify', async () => {
    const source = await loadModel(file)
    expect(encodeModel((await compressed(source, 'simplify', none)).model).length).toBeLessThan(encodeModel(source).length)
  })
})
