// Pass recover on models pruned by hand: what can be made up for exactly is, the solution is that of the normal
// equations computed naively, zeros stay zeros, and what does not help is left alone with a reason.
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Model, PassContext, Tuner, TuningRequest } from '#flyweight/compress/passes/pass.js'
import { recover } from '#flyweight/compress/passes/recover.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import { holdOut, type Samples } from '#flyweight/compress/samples.js'
import { node, tensorProto, tensorValues } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { create, encodeModel, StringStringEntryProtoSchema, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import { readNpz } from '#flyweight/tensor/npz.js'
import { copyRows } from '#flyweight/tensor/rows.js'
import { compressed, network, noiseSamples, outputs, sqnr, weights, withFolder } from '../compressing.js'

/** Runs the pass on `pruned` as a step of a recipe that started from `original`. */
function recovered(original: Model, pruned: Model, samples: Samples, parameters: Record<string, number | string[]> = {}) {
  return withFolder((workDir) => {
    const context: PassContext = { loadOriginal: () => Promise.resolve(original), device: 'cpu', samples, maxBatch: 32, threads: 1, workDir }
    return recover.run(pruned, parseRecipe([{ pass: 'recover', ...parameters }]).recipe![0]!, context)
  })
}

/** Says which channels of its output tensors a model still has. */
function keeping(model: Model, kept: Record<string, { axis: number; of: number; kept: number[] }>): Model {
  model.metadataProps.push(create(StringStringEntryProtoSchema, { key: 'flyweight.kept', value: JSON.stringify(kept) }))
  return model
}

const floats = (proto: TensorProto) => tensorValues(proto).data as Float32Array
const constant = (model: Model, name: string) => model.graph.initializer.find((one) => one.name === name)!
const valuesOf = (model: Model, name: string) => floats(constant(model, name))

/** Those entries of axis 0 or 1 of a constant; `inner` values each. */
function slice(proto: TensorProto, axis: 0 | 1, kept: readonly number[]): TensorProto {
  const dims = proto.dims.map(Number)
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const outer = axis === 0 ? 1 : dims[0]!
  const parts = Array.from({ length: outer }, (_, o) =>
    kept.flatMap((k) => [...floats(proto).subarray((o * dims[axis]! + k) * inner, (o * dims[axis]! + k + 1) * inner)]),
  )
  return tensorProto(
    proto.name,
    'float32',
    dims.map((dim, i) => (i === axis ? kept.length : dim)),
    parts.flat(),
  )
}

async function error(original: Model, model: Model, samples: Samples): Promise<number> {
  const feeds = samples.take(0, 4)
  return sqnr((await outputs(original, feeds))['y']!, (await outputs(model, feeds))['y']!)
}

/** x → first → Relu → second, with channel 1 of `a` three times channel 0, and channel 3 the sum of 0 and 2 before Relu's positive inputs. */
function dependentConvolutions(): { original: Model; pruned: Model } {
  const first = weights('first', [4, 3, 3, 3], { seed: 3 })
  const [values, size] = [floats(first), 27]
  for (let i = 0; i < size; i++) {
    values[size + i] = 3 * values[i]!
    values[3 * size + i] = values[i]! + values[2 * size + i]!
  }
  const second = weights('second', [5, 4, 3, 3], { seed: 4 })
  const nodes = () => [
    node('Conv', ['x', 'first'], ['a'], { attributes: { pads: [1, 1, 1, 1] } }),
    node('Mul', ['a', 'half'], ['h']),
    node('Conv', ['h', 'second', 'bias'], ['y'], { attributes: { pads: [1, 1, 1, 1], strides: [2, 2] } }),
  ]
  const others = () => [tensorProto('half', 'float32', [], [0.5]), weights('bias', [5], { seed: 5 })]
  const build = (of: TensorProto[]) => network([3, 8, 8], ['n', 5, 4, 4], nodes(), [...of, ...others()])
  const pruned = keeping(build([slice(first, 0, [0, 2]), slice(second, 1, [0, 2])]), { a: { axis: 1, of: 4, kept: [0, 2] } })
  return { original: build([first, second]), pruned }
}

const SMALL = { ridge: 1e-9 }

describe('recover', () => {
  it('makes up exactly for channels of a Conv that depend on those left', async () => {
    const { original, pruned } = dependentConvolutions()
    const samples = noiseSamples([3, 8, 8], 32)
    expect(await error(original, pruned, samples)).toBeLessThan(20)
    const { model, decisions } = await recovered(original, pruned, samples, SMALL)
    expect(await error(original, model, samples)).toBeGreaterThan(100)
    const [full, fitted] = [valuesOf(original, 'second'), valuesOf(model, 'second')]
    for (let row = 0; row < 5; row++)
      for (let k = 0; k < 9; k++) {
        const at = (channel: number) => full[(row * 4 + channel) * 9 + k]!
        expect(fitted[row * 18 + k]!).toBeCloseTo(at(0) + 3 * at(1) + at(3), 4)
        expect(fitted[row * 18 + 9 + k]!).toBeCloseTo(at(2) + at(3), 4)
      }
    expect(decisions).toMatchObject([
      { node: 'a', action: 'skipped', reason: 'its output is that of the original model already' },
      { node: 'h', action: 'skipped', reason: 'Mul has no weights to fit' },
      { node: 'y', action: 'done', reason: expect.stringContaining('error on held-out samples') },
    ])
  })

  it.each([
    { name: 'Gemm', nodes: [node('Gemm', ['r', 'v', 'c'], ['y'])], transposed: false, rowDims: [12] },
    { name: 'Gemm with transB', nodes: [node('Gemm', ['r', 'v', 'c'], ['y'], { attributes: { transB: 1 } })], transposed: true, rowDims: [12] },
    { name: 'Gemm without a bias', nodes: [node('Gemm', ['r', 'v'], ['y'])], transposed: false, rowDims: [12] },
    { name: 'MatMul', nodes: [node('MatMul', ['r', 'v'], ['y'])], transposed: false, rowDims: [3, 12], biased: false },
    { name: 'MatMul, Add', nodes: [node('MatMul', ['r', 'v'], ['m']), node('Add', ['m', 'c'], ['y'])], transposed: false, rowDims: [3, 12] },
  ])('solves the normal equations of $name', async ({ nodes, transposed, rowDims, biased = true }) => {
    const [hidden, outer] = [8, 3]
    const kept = [0, 2, 3, 5, 7]
    const [w, v] = [weights('w', [12, hidden], { seed: 6 }), weights('v', transposed ? [outer, hidden] : [hidden, outer], { seed: 7 })]
    const build = (of: TensorProto[]) =>
      network(
        rowDims,
        ['n', ...rowDims.slice(0, -1), outer],
        [node('MatMul', ['x', 'w'], ['a']), node('Relu', ['a'], ['r']), ...nodes.map((one) => structuredNode(one))],
        [...of, weights('c', [outer], { seed: 8 })],
      )
    const original = build([w, v])
    const width = hidden
    const pruned = keeping(build([slice(w, 1, kept), slice(v, transposed ? 1 : 0, kept)]), { a: { axis: rowDims.length, of: width, kept } })
    const samples = noiseSamples(rowDims, 40)
    const { model, decisions } = await recovered(original, pruned, samples, { ridge: 0.05 })
    const ridge = Number(decisions.flatMap(({ reason }) => /with ridge (\S+)$/.exec(reason)?.[1] ?? [])[0])

    // Rows that are fitted on: all but every fourth sample.
    const x: number[][] = []
    const residuals: number[][] = []
    const perSample = rowDims.length === 2 ? 3 : 1
    for (let sample = 0; sample < 40; sample++) {
      if (sample % 4 === 3) continue
      const input = samples.take(sample, 1)['x']!.data as Float32Array
      for (let p = 0; p < perSample; p++) {
        const all = Array.from({ length: hidden }, (_, h) => {
          let sum = 0
          for (let i = 0; i < 12; i++) sum += input[p * 12 + i]! * floats(w)[i * hidden + h]!
          return Math.max(0, sum)
        })
        const weight = (h: number, o: number) => floats(v)[transposed ? o * hidden + h : h * outer + o]!
        const lost = Array.from({ length: hidden }, (_, h) => h).filter((h) => !kept.includes(h))
        x.push(kept.map((h) => all[h]!))
        residuals.push(Array.from({ length: outer }, (_, o) => lost.reduce((sum, h) => sum + weight(h, o) * all[h]!, 0)))
      }
    }
    const mean = (rows: number[][], i: number) => (biased ? rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length : 0)
    const [meanX, meanR] = [kept.map((_, i) => mean(x, i)), residuals[0]!.map((_, o) => mean(residuals, o))]
    const covariance = kept.map((_, i) => kept.map((__, j) => x.reduce((sum, row) => sum + (row[i]! - meanX[i]!) * (row[j]! - meanX[j]!), 0)))
    const lambda = (ridge * covariance.reduce((sum, row, i) => sum + row[i]!, 0)) / kept.length
    const system = covariance.map((row, i) => row.map((value, j) => value + (i === j ? lambda : 0)))
    const fitted = valuesOf(model, 'v')
    for (let o = 0; o < outer; o++) {
      const right = kept.map((_, i) => x.reduce((sum, row, r) => sum + (row[i]! - meanX[i]!) * (residuals[r]![o]! - meanR[o]!), 0))
      const change = gauss(system, right)
      for (const [i, h] of kept.entries()) {
        const before = floats(v)[transposed ? o * hidden + h : h * outer + o]!
        expect(fitted[transposed ? o * kept.length + i : i * outer + o]! - before).toBeCloseTo(change[i]!, 5)
      }
      if (!biased) continue
      const last = model.graph.node.at(-1)!
      const tensor = last.opType === 'Gemm' ? last.input[2]! : last.input[1]!
      const before = nodes.at(-1)!.input.includes('c') ? floats(weights('c', [outer], { seed: 8 }))[o]! : 0
      expect(valuesOf(model, tensor)[o]! - before).toBeCloseTo(meanR[o]! - change.reduce((sum, value, i) => sum + value * meanX[i]!, 0), 5)
    }
  })

  it('goes on from what it has recovered upstream, and says by how much errors fall', async () => {
    const layers = [1, 2, 3]
    const build = (of: TensorProto[]) =>
      network(
        [16],
        ['n', 4],
        [
          ...layers.flatMap((i) => [node('Gemm', [i === 1 ? 'x' : `r${i - 1}`, `w${i}`, `b${i}`], [`a${i}`]), node('Relu', [`a${i}`], [`r${i}`])]),
          node('Gemm', ['r3', 'last'], ['y']),
        ],
        of,
      )
    const full = layers.map((i) => weights(`w${i}`, [16, 16], { seed: 20 + i, size: 0.5 }))
    const biases = layers.map((i) => weights(`b${i}`, [16], { seed: 30 + i, size: 0.5 }))
    const last = weights('last', [16, 4], { seed: 40 })
    const kept = Array.from({ length: 16 }, (_, i) => i).filter((i) => i % 4 !== 1)
    const pruned = build([
      ...full.map((w, i) => slice(i === 0 ? w : slice(w, 0, kept), 1, kept)),
      ...biases.map((b) => slice(b, 0, kept)),
      slice(last, 0, kept),
    ])
    keeping(pruned, Object.fromEntries(layers.map((i) => [`a${i}`, { axis: 1, of: 16, kept }])))
    const original = build([...full, ...biases, last])
    const samples = noiseSamples([16], 256)
    const { model, decisions, summary } = await recovered(original, pruned, samples)
    const test = noiseSamples([16], 8)
    expect(await error(original, model, test)).toBeGreaterThan((await error(original, pruned, test)) + 3)
    expect(decisions.filter(({ action }) => action === 'done').map(({ node: name }) => name)).toEqual(['a2', 'a3', 'y'])
    expect(summary).toMatch(
      /^weights of 3 of 3 nodes fitted on 192 samples: the model's outputs on held-out samples err by .* % of their energy in place of .* %$/,
    )
  })

  it('lets the last layer of a sum make up for what the others lost', async () => {
    const [u, v] = [weights('u', [6, 12], { seed: 11 }), weights('v', [12, 6], { seed: 12, size: 0.5 })]
    const kept = [0, 1, 2, 4, 5, 7, 8, 10]
    const build = (of: TensorProto[]) =>
      network(
        [6],
        ['n', 6],
        [
          node('Gemm', ['x', 'u'], ['a']),
          node('Tanh', ['a'], ['t']),
          node('Gemm', ['t', 'v'], ['trunk']),
          node('MatMul', ['x', 'p'], ['b1']),
          node('MatMul', ['b1', 'q'], ['b2']),
          node('MatMul', ['b2', 'r'], ['b3']),
          node('Add', ['b3', 'c'], ['branch']),
          node('Add', ['trunk', 'branch'], ['s']),
          node('Softplus', ['s'], ['y']),
        ],
        [...of, ...['p', 'q', 'r'].map((name, i) => weights(name, [6, 6], { seed: 13 + i })), weights('c', [6], { seed: 16 })],
      )
    const original = build([u, v])
    const pruned = keeping(build([slice(u, 1, kept), slice(v, 0, kept)]), { a: { axis: 1, of: 12, kept } })
    const samples = noiseSamples([6], 256)
    const whole = await recovered(original, pruned, samples)
    expect(whole.decisions.filter(({ action }) => action === 'done').map(({ node: name }) => name)).toEqual(['trunk', 'b3'])
    const without = await recovered(original, pruned, samples, { exclude: ['trunk', 'b3'] })
    const trunkOnly = await recovered(original, pruned, samples, { exclude: ['b3'] })
    const branchOnly = await recovered(original, pruned, samples, { exclude: ['trunk'] })
    const test = noiseSamples([6], 8)
    const [none, trunk, branch, both] = [
      await error(original, without.model, test),
      await error(original, trunkOnly.model, test),
      await error(original, branchOnly.model, test),
      await error(original, whole.model, test),
    ]
    expect(trunk).toBeGreaterThan(none + 3)
    expect(branch).toBeGreaterThan(none + 3)
    expect(both).toBeGreaterThan(trunk)
  })

  it.each(['output', 'layer'])('keeps the zeros of pruned weights (by %s), and comes closer to the original', async (scope) => {
    const original = network(
      [4, 8, 8],
      ['n', 10],
      [
        node('Conv', ['x', 'w', 'b'], ['a'], { attributes: { pads: [1, 1, 1, 1], group: 2 } }),
        node('Relu', ['a'], ['r']),
        node('Conv', ['r', 'd'], ['e'], { attributes: { group: 8, auto_pad: 'SAME_UPPER', strides: [2, 2] } }),
        node('Flatten', ['e'], ['f']),
        node('Gemm', ['f', 'v'], ['y']),
      ],
      [
        weights('w', [8, 2, 3, 3], { seed: 3 }),
        weights('b', [8], { seed: 4 }),
        weights('d', [8, 1, 3, 3], { seed: 5 }),
        weights('v', [128, 10], { seed: 6, size: 0.2 }),
      ],
    )
    const samples = noiseSamples([4, 8, 8], 256)
    const { model: pruned } = await compressed(original, `prune-weights(ratio=0.5,minWeights=0,scope=${scope})`, samples)
    const { model, decisions } = await recovered(original, pruned, samples, { ridge: 0.1 })
    let zeros = 0
    for (const name of ['w', 'd', 'v']) {
      const after = valuesOf(model, name)
      valuesOf(pruned, name).forEach((value, i) => {
        if (value !== 0) return
        expect(after[i]).toBe(0)
        zeros += 1
      })
    }
    expect(zeros).toBe((144 + 72 + 1280) / 2)
    expect(decisions.filter(({ action }) => action === 'done').length).toBeGreaterThanOrEqual(2)
    const test = noiseSamples([4, 8, 8], 8)
    expect(await error(original, model, test)).toBeGreaterThan(await error(original, pruned, test))
  })

  it('keeps weights that no fit improves on samples it was not fitted on', async () => {
    const identity = tensorProto(
      'w',
      'float32',
      [9, 9],
      Array.from({ length: 81 }, (_, i) => Number(i % 10 === 0)),
    )
    const [w, v] = [identity, weights('v', [9, 3], { seed: 7 })]
    const build = (of: TensorProto[]) => network([9], ['n', 3], [node('MatMul', ['x', 'w'], ['a']), node('MatMul', ['a', 'v'], ['y'])], of)
    const kept = [0, 1, 2, 3, 4, 5, 6, 7]
    const pruned = keeping(build([slice(w, 1, kept), slice(v, 0, kept)]), { a: { axis: 1, of: 9, kept } })
    // Nine fitted samples for eight unknowns an output, and what was removed does not depend on what is left.
    const { model, decisions } = await recovered(build([w, v]), pruned, noiseSamples([9], 12), { ridge: 1e-9 })
    expect(decisions.at(-1)).toMatchObject({
      action: 'skipped',
      reason: expect.stringMatching(/^fitting its weights does not help: error on held-out samples/),
    })
    expect(valuesOf(model, 'v')).toEqual(valuesOf(pruned, 'v'))
  })

  it('takes everything back where the outputs of the model come no closer', async () => {
    const w = weights('w', [9, 2], { seed: 8 })
    // The first output can be fitted; the second is all but right, has too few samples, and is what counts afterwards.
    const damaged = tensorProto(
      'w',
      'float32',
      [9, 2],
      floats(w).map((value, i) => (i === 17 ? 0 : i % 2 === 0 ? value / 2 : value)),
    )
    const build = (of: TensorProto) =>
      network([9], ['n', 2], [node('MatMul', ['x', 'w'], ['a']), node('Mul', ['a', 'gain'], ['y'])], [of, tensorProto('gain', 'float32', [2], [1e-4, 1e4])])
    const pruned = build(damaged)
    const { model, decisions, summary } = await recovered(build(w), pruned, noiseSamples([9], 12), { ridge: 1e-9 })
    expect(decisions[0]).toMatchObject({ node: 'a', action: 'skipped', reason: expect.stringContaining("; taken back: with all fits, the model's outputs") })
    expect(summary).toMatch(/so all is taken back$/)
    expect(valuesOf(model, 'w')).toEqual(valuesOf(pruned, 'w'))
  })

  it('leaves alone what it cannot fit, with a reason', async () => {
    const { original, pruned } = dependentConvolutions()
    const samples = noiseSamples([3, 8, 8], 16)
    const reasonOf = async (model: Model, parameters = {}) =>
      (await recovered(original, model, samples, parameters)).decisions.find(({ node: name }) => name === 'y')
    expect(await reasonOf(pruned, { exclude: ['y'] })).toMatchObject({ action: 'skipped', reason: 'excluded by the recipe' })
    const other = dependentConvolutions().pruned
    other.metadataProps = []
    const decisions = (await recovered(original, other, samples)).decisions
    expect(decisions[0]).toMatchObject({ node: 'a', action: 'skipped', reason: 'it is not told which of 4 channels its 2 are' })
  })

  it('gives the same bytes again and leaves its input as it was', async () => {
    const { original, pruned } = dependentConvolutions()
    const samples = noiseSamples([3, 8, 8], 16)
    const before = encodeModel(pruned)
    const [first, second] = [await recovered(original, pruned, samples, { positions: 64 }), await recovered(original, pruned, samples, { positions: 64 })]
    expect(Buffer.from(encodeModel(first.model)).equals(encodeModel(second.model))).toBe(true)
    expect(Buffer.from(encodeModel(pruned)).equals(before)).toBe(true)
    expect(Buffer.from(encodeModel(first.model)).equals(before)).toBe(false)
  })

  it('asks for samples where there are none', async () => {
    const { original, pruned } = dependentConvolutions()
    await expect(recovered(original, pruned, noiseSamples([3, 8, 8], 0))).rejects.toMatchObject({
      code: 'invalid_recipe',
      message: 'recover: got 0 samples, expected at least 2: weights are fitted on some and judged on others',
    })
  })

  it('refuses metadata of another form', async () => {
    const { original, pruned } = dependentConvolutions()
    pruned.metadataProps[0]!.value = '{"a": {"kept": "all"}}'
    await expect(recovered(original, pruned, noiseSamples([3, 8, 8], 4))).rejects.toMatchObject({ code: 'invalid_model' })
  })
})

/** Accuracy on the rows held out of what a recipe makes of a fixture with the others. */
async function accuracyOf(name: string, recipe: string): Promise<number> {
  const path = (extension: string) => fileURLToPath(new URL(`../../fixtures/${name}.${extension}`, import.meta.url))
  const data = readNpz(await readFile(path('npz')))
  const [x, labels] = [data.get('in/x')!, Int32Array.from(data.get('labels')!.data as BigInt64Array, Number)]
  const all: Samples = { rows: labels.length, digest: name, labels, take: (from, count) => ({ x: copyRows(x, from, from + count) }) }
  const { calibration, evaluation } = holdOut(all)
  const { model } = await compressed(await loadModel(path('onnx')), recipe, calibration)
  const [logits] = Object.values(await outputs(model, evaluation.take(0, evaluation.rows)))
  const row = (i: number) => [...(logits!.data as Float32Array).subarray(i * 10, i * 10 + 10)]
  const right = Array.from({ length: evaluation.rows }, (_, i) => row(i).indexOf(Math.max(...row(i))) === evaluation.labels![i])
  return right.filter(Boolean).length / evaluation.rows
}

describe('on trained networks', () => {
  it.each([
    { name: 'digits_cnn', recipe: 'prune-channels(ratio=0.5,roundTo=4)', pruned: 0.5, recovered: 0.95 },
    { name: 'digits_vit', recipe: 'prune-channels(ratio=0.5,roundTo=4)', pruned: 0.88, recovered: 0.89 },
    { name: 'digits_vit', recipe: 'prune-weights(ratio=0.8)', pruned: 0.5, recovered: 0.89 },
  ])('recover regains what $recipe costs $name', async ({ name, recipe, pruned, recovered: least }) => {
    expect(await accuracyOf(name, recipe)).toBeLessThan(pruned)
    expect(await accuracyOf(name, `${recipe}+recover`)).toBeGreaterThan(least)
  })
})

function structuredNode(one: NodeProto): NodeProto {
  return node(one.opType, one.input, one.output, { attributes: Object.fromEntries(one.attribute.map(({ name, i }) => [name, i])) })
}

/** Solves A · x = b by elimination with pivots. */
function gauss(a: number[][], b: number[]): number[] {
  const rows = a.map((row, i) => [...row, b[i]!])
  for (let i = 0; i < rows.length; i++) {
    const pivot = rows.findIndex((row, r) => r >= i && Math.abs(row[i]!) === Math.max(...rows.slice(i).map((other) => Math.abs(other[i]!))))
    ;[rows[i], rows[pivot]] = [rows[pivot]!, rows[i]!]
    for (let r = 0; r < rows.length; r++) {
      if (r === i) continue
      const factor = rows[r]![i]! / rows[i]![i]!
      rows[r] = rows[r]!.map((value, c) => value - factor * rows[i]![c]!)
    }
  }
  return rows.map((row, i) => row.at(-1)! / row[i]!)
}

describe('recover(by=distillation)', () => {
  /** Runs the pass with a trainer that returns what `trained` makes of the request's model. */
  async function distilled(source: Model, trained: (request: TuningRequest) => Model, { after = 0.5, ...parameters }: Record<string, unknown> = {}) {
    let seen: TuningRequest | undefined
    const tune: Tuner = (request) => {
      seen = request
      return Promise.resolve({ model: trained(request), rows: 7, heldOut: { before: 1, after: after as number } })
    }
    const samples = noiseSamples([4])
    const step = parseRecipe([{ pass: 'recover', by: 'distillation', ...parameters }]).recipe![0]!
    const context: PassContext = { loadOriginal: () => Promise.resolve(source), device: 'cpu', samples, maxBatch: 32, threads: 1, workDir: '', tune }
    return { ...(await recover.run(source, step, context)), request: seen! }
  }

  const twoProducts = () =>
    network(
      [4],
      ['n', 2],
      [
        node('MatMul', ['x', 'first'], ['a'], { name: 'one' }),
        node('Relu', ['a'], ['h'], { name: 'relu' }),
        node('MatMul', ['h', 'second'], ['y'], { name: 'two' }),
      ],
      [weights('first', [4, 3]), weights('second', [3, 2])],
    )

  function withOnes(model: Model, name: string): Model {
    const initializer = model.graph.initializer.map((tensor) =>
      tensor.name === name ? tensorProto(name, 'float32', tensor.dims.map(Number), new Float32Array(6).fill(1)) : tensor,
    )
    return { ...model, graph: { ...model.graph, initializer } }
  }

  it('asks for what the step says, and accounts for the nodes whose weights changed', async () => {
    const { model, decisions, request, summary } = await distilled(twoProducts(), ({ model }) => withOnes(model, 'second'), {
      epochs: 3,
      learningRate: 0.5,
      seed: 4,
      exclude: ['one'],
    })
    expect(request).toMatchObject({ epochs: 3, learningRate: 0.5, seed: 4 })
    expect(request.frozen.has('first')).toBe(true)
    expect(request.frozen.has('second')).toBe(false)
    expect([...request.sparse]).toEqual(['first', 'second'])
    expect(valuesOf(model, 'second').every((value) => value === 1)).toBe(true)
    expect(decisions.map(({ node: name, action }) => `${name} ${action}`)).toEqual(['one skipped', 'relu skipped', 'two done'])
    expect(summary).toContain('trained on 7 samples')
  })

  it('takes everything back where held-out samples come no closer', async () => {
    for (const after of [1, Number.NaN]) {
      const source = twoProducts()
      const { model, decisions, summary } = await distilled(source, (request) => withOnes(request.model, 'second'), { after })
      expect(valuesOf(model, 'second')).toEqual(valuesOf(source, 'second'))
      expect(decisions.every(({ action }) => action === 'skipped')).toBe(true)
      expect(summary).toContain('taken back')
    }
  })

  it('needs somebody who trains', async () => {
    await expect(compressed(twoProducts(), 'recover(by=distillation)', noiseSamples([4]))).rejects.toMatchObject({
      code: 'invalid_recipe',
      message: expect.stringContaining('training engine'),
      errors: [{ pointer: '/recipe/by' }],
    })
  })
})
