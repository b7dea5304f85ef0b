// Training a pruned model on what the original answers: against the known solution of a linear network, and on digits through
// whole builds.
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildVariant, type BuildResult } from '#flyweight/compress/build.js'
import type { Model, PassContext, TuningRequest } from '#flyweight/compress/passes/pass.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { tuneOnSamples } from '#flyweight/jobs/tuning.js'
import { model as makeModel, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { copyRows } from '#flyweight/tensor/rows.js'
import { readNpz } from '#flyweight/tensor/npz.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { noiseSamples } from '../compress/compressing.js'

let folder: string
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'tuning-'))))
afterEach(() => rm(folder, { recursive: true }))

/** From x [n, 2, 3] to y = x·w [n, 2, 2], and with a second output z = 1000·y where asked for. */
function linear(weights: readonly number[], { batch = 'n', outputs = ['y'] }: { batch?: string | number; outputs?: string[] } = {}): Model {
  return makeModel({
    inputs: [valueInfo('x', 'float32', [batch, 2, 3])],
    outputs: outputs.map((name) => valueInfo(name, 'float32', [batch, 2, 2])),
    nodes: [node('MatMul', ['x', 'w'], ['y']), ...(outputs.includes('z') ? [node('Mul', ['y', 'thousand'], ['z'])] : [])],
    initializers: [tensorProto('w', 'float32', [3, 2], weights), tensorProto('thousand', 'float32', [], [1000])],
  })
}

const WANTED = [1, -2, 0.5, 3, -1, 0.25]
const PRUNED = [0, -1, 0.2, 0, -1, 0.5]

async function tuned(request: Partial<TuningRequest>, { samples = noiseSamples([2, 3], 64), ...context }: Partial<PassContext> = {}) {
  return tuneOnSamples(
    {
      model: linear(PRUNED),
      teacher: linear(WANTED),
      epochs: 200,
      learningRate: 0.05,
      seed: 0,
      frozen: new Set(),
      sparse: new Set(),
      ...request,
    },
    { loadOriginal: () => Promise.reject(new Error('unused')), device: 'cpu', samples, maxBatch: 32, threads: 1, workDir: folder, ...context },
  )
}

function weightsOf({ graph }: Model, name = 'w'): number[] {
  return [...(tensorValues(graph.initializer.find((one) => one.name === name)!).data as Float32Array)]
}

describe('tuneOnSamples', () => {
  it('finds the weights of a linear original', async () => {
    const { model, rows, heldOut } = await tuned({})
    for (const [index, value] of weightsOf(model).entries()) expect(value).toBeCloseTo(WANTED[index]!, 2)
    expect(rows).toBe(58)
    expect(heldOut.after).toBeLessThan(heldOut.before * 1e-4)
  })

  it('leaves zeros zero where asked, and finds the rest', async () => {
    const samples = noiseSamples([2, 3], ROWS)
    const trained = weightsOf((await tuned({ sparse: new Set(['w']), epochs: 30 }, { samples })).model)
    expect([trained[0], trained[3]]).toEqual([0, 0])
    for (const column of [0, 1]) {
      const expected = leastSquares(column)
      for (const row of [0, 1, 2]) expect(trained[row * 2 + column]).toBeCloseTo(expected[row]!, 1)
    }
  })

  it('leaves frozen weights alone, and refuses where none is left', async () => {
    await expect(tuned({ frozen: new Set(['w', 'thousand']) })).rejects.toMatchObject({ code: 'invalid_recipe' })
    const model = linear(PRUNED)
    model.graph.initializer.push(tensorProto('bias', 'float32', [2], [0, 0]))
    model.graph.node = [node('MatMul', ['x', 'w'], ['product']), node('Add', ['product', 'bias'], ['y'])]
    const { model: trained } = await tuned({ model, frozen: new Set(['w']) })
    expect(weightsOf(trained)).toEqual(weightsOf(model))
    expect(weightsOf(trained, 'bias')).not.toEqual([0, 0])
  })

  it('counts outputs alike whatever their unit', async () => {
    const outputs = ['y', 'z']
    const { heldOut } = await tuned({ model: linear(PRUNED, { outputs }), teacher: linear(WANTED, { outputs }), epochs: 1 })
    const alone = await tuned({ epochs: 1 })
    expect(heldOut.before).toBeCloseTo(2 * alone.heldOut.before, 4)
  })

  it('trains models that take one row at a time', async () => {
    const { heldOut } = await tuned(
      { model: linear(PRUNED, { batch: 1 }), teacher: linear(WANTED, { batch: 1 }), epochs: 100 },
      { maxBatch: 1, samples: noiseSamples([2, 3], 24) },
    )
    expect(heldOut.after).toBeLessThan(heldOut.before / 4)
  })

  it('gives the same weights for the same seed, at any number of threads, and others for another', async () => {
    const once = await tuned({ epochs: 5 })
    expect(weightsOf((await tuned({ epochs: 5 }, { threads: 2 })).model)).toEqual(weightsOf(once.model))
    expect(weightsOf((await tuned({ epochs: 5, seed: 1 })).model)).not.toEqual(weightsOf(once.model))
  })

  it('tells how far it is, and ends when it is cancelled', async () => {
    const abort = new AbortController()
    const seen: number[] = []
    const onProgress = (fraction: number) => {
      seen.push(fraction)
      if (fraction >= 0.25) abort.abort(new Error('enough'))
    }
    await expect(tuned({}, { onProgress, signal: abort.signal })).rejects.toThrow('enough')
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    expect(seen.at(-1)).toBeLessThan(0.5)
  })

  it('says what samples and models it cannot train on', async () => {
    const uneven: Samples = { ...noiseSamples([2, 3], 8), alike: (from, most) => (from === 0 ? 1 : most) }
    await expect(tuned({}, { samples: uneven })).rejects.toMatchObject({ code: 'invalid_recipe', message: expect.stringContaining('several shapes') })
    await expect(tuned({}, { samples: noiseSamples([2, 3], 1) })).rejects.toThrow('got 1 samples')
  })
})

/** Enough that leaving out those held out hardly matters. */
const ROWS = 1024

/** Weights of one column by the normal equations over all rows, zeros of PRUNED left out. */
function leastSquares(column: number): number[] {
  const { data } = noiseSamples([2, 3], ROWS).take(0, ROWS)['x'] as { data: Float32Array }
  const free = [0, 1, 2].filter((row) => PRUNED[row * 2 + column] !== 0)
  const matrix = free.map(() => free.map(() => 0))
  const right = free.map(() => 0)
  for (let at = 0; at < data.length; at += 3) {
    const target = [0, 1, 2].reduce((sum, row) => sum + data[at + row]! * WANTED[row * 2 + column]!, 0)
    free.forEach((a, i) => {
      right[i]! += data[at + a]! * target
      free.forEach((b, j) => (matrix[i]![j]! += data[at + a]! * data[at + b]!))
    })
  }
  // Two unknowns a column: Cramer's rule.
  const [[a, b], [c, d]] = matrix as [[number, number], [number, number]]
  const [e, f] = right as [number, number]
  const solved = [(e * d - b * f) / (a * d - b * c), (a * f - e * c) / (a * d - b * c)]
  return [0, 1, 2].map((row) => (free.includes(row) ? solved[free.indexOf(row)]! : 0))
}

const arrays = readNpz(readFileSync('tests/fixtures/digits_cnn.npz'))
const x = arrays.get('in/x') as Tensor
const labels = Int32Array.from(arrays.get('labels')?.data as BigInt64Array, Number)

/** Every other row of the fixture's digits. */
function digits(offset: 0 | 1, labelled = true): Samples {
  const at = Array.from({ length: 128 }, (_, row) => 2 * row + offset)
  const size = 28 * 28
  return {
    rows: 128,
    digest: `digits ${offset}`,
    labels: labelled ? labels.filter((_, row) => row % 2 === offset) : undefined,
    take: (from, count) => ({
      x: {
        ...x,
        dims: [count, 1, 28, 28],
        data: Float32Array.from(at.slice(from, from + count).flatMap((row) => [...(x.data as Float32Array).subarray(row * size, (row + 1) * size)])),
      },
    }),
  }
}

async function built(request: string, { labelled = true, engine = true } = {}): Promise<BuildResult> {
  return buildVariant({
    sourceFile: 'tests/fixtures/digits_cnn.onnx',
    sourceDigest: 'digits_cnn',
    request,
    samples: digits(0, labelled),
    evaluation: digits(1),
    synthetic: false,
    maxBatch: 32,
    feedsAt: (batch) => ({ x: copyRows(x, 0, batch) }),
    batches: [],
    minFidelity: 0,
    device: 'cpu',
    threads: 1,
    workDir: await mkdtemp(join(folder, 'build-')),
    ...(engine ? { tune: tuneOnSamples } : {}),
  })
}

const accuracyOf = ({ report }: BuildResult) => report.fidelity.accuracy!.variant

describe('recover(by=distillation)', () => {
  it('brings half the channels of a digits network back within a point, with labels and without', async () => {
    const pruned = 'prune-channels(ratio=0.5,roundTo=4)'
    const recovered = `${pruned}+recover(by=distillation,epochs=40,learningRate=0.003)`
    const before = await built(pruned)
    const source = before.report.fidelity.accuracy!.source
    expect(accuracyOf(before)).toBeLessThan(source - 0.3)
    expect(accuracyOf(await built(recovered))).toBeGreaterThanOrEqual(source - 0.02)
    expect(accuracyOf(await built(recovered, { labelled: false }))).toBeGreaterThanOrEqual(source - 0.02)
  })

  it('keeps every zero of pruned weights, and makes the same bytes again', async () => {
    const pruned = await built('prune-weights(ratio=0.9)')
    const recipe = 'prune-weights(ratio=0.9)+recover(by=distillation,epochs=10)'
    const [once, again] = [await built(recipe), await built(recipe)]
    expect((await readFile(once.file)).equals(await readFile(again.file))).toBe(true)
    expect(accuracyOf(once)).toBeGreaterThan(accuracyOf(pruned))
    const values = new Map((await loadModel(once.file)).graph.initializer.map((tensor) => [tensor.name, tensorValues(tensor).data as Float32Array]))
    let zeros = 0
    for (const tensor of (await loadModel(pruned.file)).graph.initializer) {
      if (tensor.dims.length < 2) continue
      const trained = values.get(tensor.name)!
      ;(tensorValues(tensor).data as Float32Array).forEach((value, index) => {
        if (value !== 0) return
        zeros += 1
        if (!Object.is(trained[index], 0)) throw new Error(`${tensor.name}[${index}] became ${trained[index]}`)
      })
    }
    expect(zeros).toBeGreaterThan(50_000)
  })

  it('says that it needs a training engine', async () => {
    await expect(built('recover(by=distillation)', { engine: false })).rejects.toMatchObject({
      code: 'invalid_recipe',
      message: expect.stringContaining('needs a training engine'),
      errors: [{ pointer: '/recipe/by' }],
    })
  })
})

it('prunes in steps and keeps more right than at once', async () => {
  const share = 'ratio=0.95,scope=global'
  const gradual = await built(`prune-weights(${share},schedule=gradual,steps=4,epochs=10,learningRate=0.003)`)
  expect(accuracyOf(gradual)).toBeGreaterThan(accuracyOf(await built(`prune-weights(${share})`)) + 0.2)
  expect(gradual.report.passes[0]!.summary).toContain('(95.0 %)')
})
