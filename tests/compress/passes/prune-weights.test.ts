// Weight pruning: exactly the share asked for goes, and what goes is what matters least. What matters is found
// out here by running each layer with one weight alone, so that no layout is taken on trust.
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { passNamed } from '#flyweight/compress/passes/table.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { graph, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import { readNpz } from '#flyweight/tensor/npz.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import { compressed, network, noiseSamples, outputs, weights } from '../compressing.js'

const [K, N] = [48, 40]
const none: Samples = noiseSamples([K])
const valuesOf = ({ graph }: Model, name = 'w') => [...(tensorValues(graph.initializer.find((one) => one.name === name)!).data as Float32Array)]
const zeros = (values: number[]) => values.filter((value) => value === 0).length
const dropped = (values: number[]) => values.flatMap((value, index) => (value === 0 ? [index] : []))

const mlp = network(
  [K],
  ['n', N],
  [node('MatMul', ['x', 'w'], ['h']), node('Relu', ['h'], ['r']), node('Gemm', ['r', 'v'], ['y'], { attributes: { transB: 1 } })],
  [weights('w', [K, N], { seed: 2 }), weights('v', [N, N], { seed: 3, size: 0.1 })],
)

describe('by magnitude', () => {
  it('takes exactly the least of every layer', async () => {
    for (const ratio of [0.05, 0.5, 0.905, 1]) {
      const { model, decisions } = await compressed(mlp, `prune-weights(ratio=${ratio})`, none)
      for (const name of ['w', 'v']) {
        const [before, after] = [valuesOf(mlp, name), valuesOf(model, name)]
        expect(zeros(after)).toBe(Math.round(ratio * before.length))
        const least = before.map((value, index) => [Math.abs(value), index] as const).sort(([a], [b]) => a - b)
        expect(dropped(after)).toEqual(
          least
            .slice(0, zeros(after))
            .map(([, index]) => index)
            .sort((a, b) => a - b),
        )
        after.forEach((value, index) => expect(value === 0 || value === before[index]).toBe(true))
      }
      expect(decisions.map(({ node: name, action }) => [name, action])).toEqual([
        ['h', 'done'],
        ['r', 'skipped'],
        ['y', 'done'],
      ])
    }
  })

  it('takes exactly the least of the whole model', async () => {
    const { model, summary } = await compressed(mlp, 'prune-weights(ratio=0.5,scope=global)', none)
    const [w, v] = [valuesOf(model, 'w'), valuesOf(model, 'v')]
    expect(zeros(w) + zeros(v)).toBe((K * N + N * N) / 2)
    expect(zeros(v)).toBeGreaterThan(0.9 * v.length)
    const kept = Math.min(...[...w, ...v].map(Math.abs).filter((value) => value > 0))
    const went = [...valuesOf(mlp, 'w').filter((_, i) => w[i] === 0), ...valuesOf(mlp, 'v').filter((_, i) => v[i] === 0)]
    expect(Math.max(...went.map(Math.abs))).toBeLessThanOrEqual(kept)
    expect(summary).toContain(`${(K * N + N * N) / 2} of ${K * N + N * N} weights`)
  })

  it('takes the first of equal weights, and counts zeros that are there', async () => {
    const equal = network([K], ['n', N], [node('MatMul', ['x', 'w'], ['y'])], [tensorProto('w', 'float32', [K, N], new Array<number>(K * N).fill(-0.5))])
    const half = await compressed(equal, 'prune-weights', none)
    expect(dropped(valuesOf(half.model))).toEqual(Array.from({ length: (K * N) / 2 }, (_, i) => i))
    const again = await compressed(half.model, 'prune-weights', none)
    expect(valuesOf(again.model)).toEqual(valuesOf(half.model))
    expect(again.decisions).toMatchObject([{ node: 'y', action: 'skipped', reason: '50.0 % of its 1920 weights are zero already' }])
    const more = await compressed(half.model, 'prune-weights(ratio=0.75)', none)
    expect(zeros(valuesOf(more.model))).toBe(0.75 * K * N)
  })

  it('works on halves and in typed fields', async () => {
    const { model } = await compressed(mlp, 'fp16+prune-weights(ratio=0.75)', none)
    expect(valuesOf(model, 'w::half').length).toBe(K * N)
    expect(zeros(valuesOf(model, 'w::half'))).toBe(0.75 * K * N)
    const typed: TensorProto = { ...weights('w', [K, N]), rawData: new Uint8Array(), floatData: [...(noise([K, N]).data as Float32Array)] }
    const source = network([K], ['n', N], [node('MatMul', ['x', 'w'], ['y'])], [typed])
    expect(zeros(valuesOf((await compressed(source, 'prune-weights', none)).model))).toBe((K * N) / 2)
    expect(zeros(valuesOf(source))).toBe(0)
  })
})

describe('by what weights meet (Wanda)', () => {
  /** Rows of very different size, with a border of zeros, so that every element of a kernel meets all of a channel. */
  function images(channels: number): Tensor {
    const x = noise([6, channels, 5, 5], 11)
    const data = (x.data as Float32Array<ArrayBuffer>).map((value, i) => {
      const [column, row, channel] = [i % 5, Math.floor(i / 5) % 5, Math.floor(i / 25) % channels]
      return column % 4 === 0 || row % 4 === 0 ? 0 : value * 3 ** ((channel * 3) % 7)
    })
    return { ...x, data }
  }
  const rows = (dims: number[]): Tensor => {
    const x = noise(dims, 12)
    return { ...x, data: (x.data as Float32Array<ArrayBuffer>).map((value, i) => value * 3 ** ((i % dims.at(-1)!) % 5)) }
  }
  it.each([
    { name: 'Conv', x: images(6), w: [4, 6, 2, 2], axis: 1, made: node('Conv', ['x', 'w'], ['y']) },
    { name: 'Conv in groups', x: images(8), w: [6, 4, 2, 2], axis: 1, made: node('Conv', ['x', 'w'], ['y'], { attributes: { group: 2 } }) },
    { name: 'ConvTranspose in groups', x: images(8), w: [8, 3, 2, 2], axis: 1, made: node('ConvTranspose', ['x', 'w'], ['y'], { attributes: { group: 2 } }) },
    { name: 'MatMul of three dimensions', x: rows([6, 3, 8]), w: [8, 5], axis: 2, made: node('MatMul', ['x', 'w'], ['y']) },
    { name: 'MatMul by a vector', x: rows([6, 3, 8]), w: [8], axis: 2, made: node('MatMul', ['x', 'w'], ['y']) },
    { name: 'Gemm', x: rows([6, 8]), w: [8, 5], axis: 1, made: node('Gemm', ['x', 'w'], ['y']) },
    { name: 'Gemm transB', x: rows([6, 8]), w: [5, 8], axis: 1, made: node('Gemm', ['x', 'w'], ['y'], { attributes: { transB: 1 } }) },
  ])('takes of $name what changes each output least', async ({ x, w, axis, made }) => {
    const all = weights('w', w, { seed: 4 })
    const rank = made.opType === 'MatMul' && w.length === 1 ? 2 : x.dims.length
    const layer = (constant: TensorProto) =>
      network(
        x.dims.slice(1),
        Array.from({ length: rank }, (_, i) => `d${i}`),
        [made],
        [constant],
      )
    const samples: Samples = { rows: 6, digest: 'x', take: (from, count) => ({ x: rowsOf(x, from, count) }) }
    const pruned = dropped(valuesOf((await compressed(layer(all), 'prune-weights(method=wanda,minWeights=1)', samples, 4)).model))
    // What each weight alone makes of the samples: which outputs it feeds, and how much they change when it goes.
    const values = valuesOf(layer(all))
    const byRow = new Map<number, { index: number; change: number }[]>()
    for (const index of values.keys()) {
      const alone = tensorProto(
        'w',
        'float32',
        w,
        values.map((value, i) => (i === index ? value : 0)),
      )
      const { y } = await outputs(layer(alone), { x })
      const [size, inner] = [y!.dims[axis] ?? 1, y!.dims.slice(axis + 1).reduce((a, b) => a * b, 1)]
      const at = (y!.data as Float32Array).findIndex((value) => value !== 0)
      const row = Math.floor(at / inner) % size
      const change = Math.hypot(...(y!.data as Float32Array))
      byRow.set(row, [...(byRow.get(row) ?? []), { index, change }])
    }
    const least = [...byRow.values()].flatMap((row) => row.sort((a, b) => a.change - b.change).slice(0, row.length / 2))
    expect(pruned).toEqual(least.map(({ index }) => index).sort((a, b) => a - b))
  })

  it('reads what transposed and half inputs hold', async () => {
    const x = rows([8, 8])
    const source = (made: NodeProto) => network([8], ['n', 5], [node('Mul', ['x', 'x'], ['x2']), made], [weights('w', [8, 5], { seed: 4 })])
    const samples: Samples = { rows: 1, digest: 'x', take: () => ({ x }) }
    const recipe = 'prune-weights(method=wanda,minWeights=1)'
    const straight = await compressed(source(node('Gemm', ['x2', 'w'], ['y'])), recipe, { ...samples, take: () => ({ x: transposed(x) }) }, 1)
    const turned = await compressed(source(node('Gemm', ['x2', 'w'], ['y'], { attributes: { transA: 1 } })), recipe, samples, 1)
    expect(valuesOf(turned.model)).toEqual(valuesOf(straight.model))
    const half = await compressed(source(node('Gemm', ['x2', 'w'], ['y'])), `fp16+${recipe}`, { ...samples, take: () => ({ x: transposed(x) }) }, 1)
    expect(dropped(valuesOf(half.model, 'w::half'))).toEqual(dropped(valuesOf(straight.model)))
  })

  it('keeps every output the same share, exactly in sum', async () => {
    const { model } = await compressed(mlp, 'prune-weights(method=wanda,ratio=0.33)', none)
    const w = valuesOf(model)
    expect(zeros(w)).toBe(Math.round(0.33 * K * N))
    for (let n = 0; n < N; n++) expect(Math.abs(zeros(w.filter((_, i) => i % N === n)) - 0.33 * K)).toBeLessThanOrEqual(1)
    const layerwise = valuesOf((await compressed(mlp, 'prune-weights(method=wanda,ratio=0.33,scope=layer)', none)).model)
    expect(zeros(layerwise)).toBe(zeros(w))
    expect(layerwise).not.toEqual(w)
  })
})

function rowsOf(from: Tensor, first: number, count: number): Tensor {
  const size = from.data.length / from.dims[0]!
  return { ...from, dims: [count, ...from.dims.slice(1)], data: (from.data as Float32Array<ArrayBuffer>).slice(first * size, (first + count) * size) }
}

function transposed({ dims, data, dtype }: Tensor): Tensor {
  const [rows, columns] = dims as [number, number]
  return { dtype, dims: [columns, rows], data: (data as Float32Array<ArrayBuffer>).map((_, i) => data[(i % rows) * columns + Math.floor(i / rows)] as number) }
}

describe('in patterns', () => {
  it('keeps N of every M along the inputs, the largest', async () => {
    const conv = network([8, 4, 4], ['n', 6, 'h', 'v'], [node('Conv', ['x', 'w'], ['y'])], [weights('w', [6, 8, 3, 3])])
    const { model, decisions } = await compressed(conv, 'prune-weights(pattern=1:4,minWeights=0)', noiseSamples([8, 4, 4]))
    const [before, after] = [valuesOf(conv), valuesOf(model)]
    expect(zeros(after)).toBe(0.75 * before.length)
    expect(decisions).toMatchObject([{ reason: '75.0 % of its 432 weights are zero' }])
    for (let m = 0; m < 6; m++)
      for (let k = 0; k < 9; k++)
        for (const c of [0, 4]) {
          const block = [0, 1, 2, 3].map((i) => (m * 8 + c + i) * 9 + k)
          const kept = block.filter((i) => after[i] !== 0)
          expect(kept).toEqual([block.toSorted((a, b) => Math.abs(before[b]!) - Math.abs(before[a]!))[0]])
        }
  })

  it('runs down the inputs of products, and leaves what it does not divide', async () => {
    const { model, decisions } = await compressed(mlp, 'prune-weights(pattern=9:16)', none)
    const w = valuesOf(model, 'w')
    for (let n = 0; n < N; n++) for (let k = 0; k < K; k += 16) expect(zeros(w.filter((_, i) => i % N === n && i >= k * N && i < (k + 16) * N))).toBe(7)
    expect(decisions[2]).toMatchObject({ action: 'skipped', reason: 'its 40 inputs are no multiple of 16' })
  })
})

describe('by chance and by gradient', () => {
  it('takes others with another seed, the same with the same', async () => {
    const run = async (seed: number) => valuesOf((await compressed(mlp, `prune-weights(method=random,seed=${seed})`, none)).model)
    const [first, same, other] = [await run(1), await run(1), await run(2)]
    expect(zeros(first)).toBe((K * N) / 2)
    expect(same).toEqual(first)
    const shared = dropped(other).filter((index) => first[index] === 0).length
    expect(Math.abs(shared / (K * N) - 0.25)).toBeLessThan(0.05)
  })

  it('takes what a gradient says the loss does not need', async () => {
    const step = parseRecipe('prune-weights(method=gradient)').recipe![0]!
    const context = { loadOriginal: () => Promise.resolve(mlp), device: 'cpu', samples: none, maxBatch: 4, threads: 1, workDir: '' }
    const ones = (size: number) => Float32Array.from({ length: size }, (_, i) => (i % 2 === 0 ? -100 : 0.001))
    const gradients = () =>
      Promise.resolve(
        new Map([
          ['w', ones(K * N)],
          ['v', ones(N * N)],
        ]),
      ) // prettier-ignore
    const { model } = await passNamed('prune-weights')!.run(mlp, step, { ...context, gradients })
    expect(dropped(valuesOf(model)).filter((i) => i % 2 === 1).length).toBeGreaterThan(0.95 * (K * N) * 0.5)
    await expect(async () => passNamed('prune-weights')!.run(mlp, step, context)).rejects.toThrow(/needs a training engine/)
  })
})

describe('graphs', () => {
  it('prunes shared weights once, and not when a node that reads them is excluded', async () => {
    const tied = network(
      [K],
      ['n', K],
      [node('MatMul', ['x', 'w'], ['a']), node('Relu', ['a'], ['b']), node('MatMul', ['b', 'w'], ['y'])],
      [weights('w', [K, K])],
    )
    for (const method of ['magnitude', 'wanda']) {
      const { model, decisions, summary } = await compressed(tied, `prune-weights(method=${method})`, none)
      expect(zeros(valuesOf(model))).toBe((K * K) / 2)
      expect(summary).toContain(`of ${K * K} weights in 1 tensors`)
      expect(decisions.map(({ action }) => action)).toEqual(['done', 'skipped', 'done'])
    }
    const { model, decisions } = await compressed(tied, 'prune-weights(exclude=y)', none)
    expect(zeros(valuesOf(model))).toBe(0)
    expect(decisions.map(({ reason }) => reason)).toEqual([
      'it shares its weights with a node that the recipe excludes',
      'Relu has no weights to prune',
      'excluded by the recipe',
    ])
  })

  it('prunes inside branches, Constant nodes and recurrent cells', async () => {
    const branch = (weight: string) =>
      graph({
        inputs: [],
        outputs: [valueInfo(`out_${weight}`, 'float32', ['n', K])],
        nodes: [node('MatMul', ['x', weight], [`out_${weight}`])],
        initializers: weight === 'own' ? [weights('own', [K, K], { seed: 7 })] : [],
      }) // prettier-ignore
    const source = network(
      [K],
      ['n', K],
      [
        node('Constant', [], ['c'], { attributes: { value: weights('', [K, K], { seed: 8 }) } }),
        node('MatMul', ['x', 'c'], ['p']),
        node('If', ['cond'], ['q'], { attributes: { then_branch: branch('own'), else_branch: branch('w') } }),
        node('Unsqueeze', ['x', 'axis'], ['steps']),
        node('LSTM', ['steps', 'lw', 'lr'], ['', 'last'], { name: 'cell', attributes: { hidden_size: K } }),
        node('Squeeze', ['last', 'axis'], ['state']),
        node('Sum', ['p', 'q', 'state'], ['y']),
      ],
      [
        weights('w', [K, K]),
        tensorProto('cond', 'bool', [], [1]),
        tensorProto('axis', 'int64', [1], [0]),
        weights('lw', [1, 4 * K, K], { size: 0.2 }),
        weights('lr', [1, 4 * K, K], { size: 0.2 }),
      ],
    )
    const { model, decisions } = await compressed(source, 'prune-weights(ratio=0.75)', none)
    const byNode = Object.fromEntries(decisions.map(({ node: name, reason }) => [name, reason]))
    expect(byNode).toMatchObject({
      p: '75.0 % of its 2304 weights are zero',
      'q/then_branch/out_own': '75.0 % of its 2304 weights are zero',
      'q/else_branch/out_w': '75.0 % of its 2304 weights are zero',
      cell: '75.0 % of its 18432 weights are zero',
      q: 'If has no weights to prune',
    })
    expect(decisions).toHaveLength(9)
    expect((await outputs(model, { x: noise([2, K]) }))['y']?.dims).toEqual([2, K])
    const wanda = await compressed(source, 'prune-weights(ratio=0.75,method=wanda)', none)
    expect(wanda.decisions.find(({ node: name }) => name === 'q/else_branch/out_w')?.reason).toContain('inside a subgraph')
    expect(zeros(valuesOf(wanda.model, 'lw'))).toBe(0.75 * 4 * K * K)
    expect(zeros(valuesOf(wanda.model, 'lr'))).toBe(0)
  })

  it('leaves the model it was given as it was, and gives the same bytes again', async () => {
    const before = encodeModel(mlp)
    const [first, second] = [await compressed(mlp, 'prune-weights(method=wanda)', none), await compressed(mlp, 'prune-weights(method=wanda)', none)]
    expect(Buffer.from(encodeModel(mlp)).equals(before)).toBe(true)
    expect(Buffer.from(encodeModel(first.model)).equals(encodeModel(second.model))).toBe(true)
  })

  it.each(['prune-weights(scope=node)', 'prune-weights(pattern=4:2)', 'prune-weights(pattern=2:4:8)', 'prune-weights(ratio=1.5)'])(
    'refuses %s',
    async (recipe) => {
      await expect(async () => compressed(mlp, recipe, none)).rejects.toThrow(FlyweightError)
    },
  )
})

it('keeps a real network right where chance ruins it', async () => {
  const path = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url))
  const source = await loadModel(path('digits_cnn.onnx'))
  const data = readNpz(await readFile(path('digits_cnn.npz')))
  const [x, labels] = [data.get('in/x')!, [...(data.get('labels')!.data as BigInt64Array)]]
  const samples: Samples = { rows: 64, digest: 'x', take: (from, count) => ({ x: rowsOf(x, from, count) }) }
  const accuracy = async (recipe: string) => {
    const [logits] = Object.values(await outputs((await compressed(source, recipe, samples)).model, { x }))
    const row = (i: number) => [...(logits!.data as Float32Array).subarray(i * 10, i * 10 + 10)]
    return labels.filter((label, i) => row(i).indexOf(Math.max(...row(i))) === Number(label)).length / labels.length
  }
  expect(await accuracy('prune-weights(ratio=0.6)')).toBeGreaterThan(0.93)
  expect(await accuracy('prune-weights(ratio=0.7,scope=global)')).toBeGreaterThan(0.96)
  expect(await accuracy('prune-weights(method=wanda,scope=layer)')).toBeGreaterThan(0.9)
  expect(await accuracy('prune-weights(method=random)')).toBeLessThan(0.5)
})
