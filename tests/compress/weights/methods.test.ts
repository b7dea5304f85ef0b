// How codes of blocks are chosen: hqq against plain rounding on the weights themselves, gptq on what products with
// real, correlated inputs give.
import { describe, expect, it } from 'vitest'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { passNamed } from '#flyweight/compress/passes/table.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { roundToNearest, type BlockCodes, type BlockFormat } from '#flyweight/compress/weights/blocks.js'
import { inverseFactor } from '#flyweight/compress/weights/gptq.js'
import { refineBlock } from '#flyweight/compress/weights/hqq.js'
import { graph, model, node, valueInfo } from '#flyweight/onnx/builder.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { int64s, noise } from '../../onnx/running.js'
import { compressed, network, noiseSamples, outputs, sqnr, weights, withFolder } from '../compressing.js'

/** Σ|w − ŵ|^power over each row. */
function rowErrors(values: Float32Array, { rows, width, codes, scales, zeros }: BlockCodes, { block }: BlockFormat, power: number): number[] {
  const blocks = Math.ceil(width / block)
  return Array.from({ length: rows }, (_, row) => {
    let sum = 0
    for (let k = 0; k < width; k++) {
      const at = row * blocks + Math.floor(k / block)
      sum += Math.abs(values[row * width + k]! - scales[at]! * (codes[row * width + k]! - zeros[at]!)) ** power
    }
    return sum
  })
}

describe('hqq', () => {
  const [rows, width] = [24, 150]
  const even = noise([rows, width], 5).data as Float32Array<ArrayBuffer>
  it.each([
    { name: 'even weights', values: even },
    { name: 'weights with outliers', values: even.map((value) => value ** 5) },
    { name: 'weights of one sign', values: even.map((value) => Math.abs(value) + 0.1) },
    { name: 'zeros', values: new Float32Array(rows * width) },
  ])('is never further off than rounding, on $name', ({ name, values }) => {
    for (const symmetric of [true, false]) {
      const format: BlockFormat = { bits: 4, block: 32, symmetric }
      const rounded = roundToNearest(values, { rows, width, format })
      const refined = roundToNearest(values, { rows, width, format, refine: refineBlock })
      for (const power of [0.5, 2]) {
        const [before, after] = [rowErrors(values, rounded, format, power), rowErrors(values, refined, format, power)]
        after.forEach((error, row) => expect(error).toBeLessThanOrEqual(before[row]! * (1 + 1e-6)))
        if (name !== 'zeros') expect(after.reduce((a, b) => a + b)).toBeLessThan(0.99 * before.reduce((a, b) => a + b))
      }
    }
  })
})

describe('the factor of the inverse moments', () => {
  it('is upper triangular, and its square times the damped moments is the identity', () => {
    const width = 12
    const x = noise([40, width], 3).data as Float32Array
    const moments = new Float64Array(width * width)
    for (let row = 0; row < 40; row++)
      for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) moments[i * width + j]! += x[row * width + i]! * x[row * width + j]!
    const damped = moments.slice()
    const mean = Array.from({ length: width }, (_, i) => moments[i * width + i]!).reduce((a, b) => a + b) / width
    for (let i = 0; i < width; i++) damped[i * width + i]! += 0.01 * mean
    const u = inverseFactor(moments, width)
    for (let i = 0; i < width; i++) {
      for (let j = 0; j < width; j++) {
        if (j < i) expect(u[i * width + j]).toBe(0)
        let sum = 0
        for (let k = 0; k < width; k++) for (let l = 0; l < width; l++) sum += u[l * width + i]! * u[l * width + k]! * damped[k * width + j]!
        expect(sum).toBeCloseTo(i === j ? 1 : 0, 9)
      }
    }
  })

  it('exists for inputs that are always zero', () => {
    expect(inverseFactor(new Float64Array(9), 3)).toEqual(Float64Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1))
  })
})

describe('gptq', () => {
  const [K, N] = [72, 32]
  /** Few directions explain most of the inputs, as in real networks. */
  const correlated = (from: number, count: number): Tensor => {
    const directions = noise([6, K], 77).data as Float32Array
    const data = new Float32Array(count * K)
    for (let row = 0; row < count; row++) {
      const [mix, own] = [noise([6], 500 + from + row).data, noise([K], 9000 + from + row).data]
      for (let k = 0; k < K; k++) {
        let sum = 0.1 * Number(own[k])
        for (let d = 0; d < 6; d++) sum += Number(mix[d]) * directions[d * K + k]!
        data[row * K + k] = sum
      }
    }
    return { dtype: 'float32', dims: [count, K], data }
  }
  const samples: Samples = { rows: 96, digest: 'correlated', take: (from, count) => ({ x: correlated(from, count) }) }
  const [w1, w2] = [weights('w1', [K, N], { seed: 2 }), weights('w2', [N, N], { seed: 3, size: 0.3 })]

  it.each(['', 'symmetric=false', 'block=16', 'block=128'])('comes closer than rounding on new correlated inputs (%s)', async (changes) => {
    const source = network([K], ['n', N], [node('MatMul', ['x', 'w1'], ['h']), node('Relu', ['h'], ['r']), node('MatMul', ['r', 'w2'], ['y'])], [w1, w2])
    const x = correlated(2000, 64)
    const { y: expected } = await outputs(source, { x })
    const closeness = async (method: string) => {
      const { model: variant } = await compressed(source, `int4(accuracyLevel=1,minWeights=0,method=${method},${changes})`, samples)
      return sqnr(expected!, (await outputs(variant, { x }))['y']!)
    }
    expect(await closeness('gptq')).toBeGreaterThan((await closeness('rtn')) + 2)
  })

  it('computes with as many samples as it is given, and gives the same codes again', async () => {
    const source = network([K], ['n', N], [node('MatMul', ['x', 'w1'], ['y'])], [w1])
    const codes = async (recipe: string) => (await compressed(source, recipe, samples)).model.graph.initializer[0]!.rawData
    const all = await codes('int4(method=gptq)')
    expect(await codes('int4(method=gptq)')).toEqual(all)
    expect(await codes('int4(method=gptq,samples=3)')).not.toEqual(all)
  })

  it('rounds, and says so, where it cannot compute with the inputs', async () => {
    const branch = (name: string) =>
      graph({
        name,
        inputs: [],
        outputs: [valueInfo('out', 'float32', ['n', N])],
        nodes: [node('MatMul', ['x', 'w1'], ['inner']), node('MatMul', ['inner', 'w2'], ['out'])],
      })
    const source: Model = model({
      inputs: [valueInfo('x', 'float32', ['n', K]), valueInfo('flag', 'bool', []), valueInfo('ids', 'int64', ['n'])],
      outputs: [valueInfo('y', 'float32', ['n', N])],
      nodes: [
        node('If', ['flag'], ['chosen'], { attributes: { then_branch: branch('t'), else_branch: branch('e') } }),
        node('Gather', ['w2', 'ids'], ['rows']),
        node('Add', ['chosen', 'rows'], ['y']),
      ],
      initializers: [w1, w2],
    })
    const feeds = (count: number) => ({
      x: correlated(0, count),
      flag: { dtype: 'bool' as const, dims: [], data: Uint8Array.of(1) },
      ids: int64s(
        [count],
        Array.from({ length: count }, (_, i) => i),
      ),
    })
    const { model: variant, decisions } = await compressed(source, 'int4(method=gptq)', { rows: 8, digest: 'mixed', take: (_, count) => feeds(count) })
    const reasons = Object.fromEntries(decisions.map(({ node: label, reason }) => [label, reason]))
    expect(reasons).toMatchObject({
      'chosen/then_branch/inner': 'weights in 4 bits, by gptq',
      'chosen/then_branch/out': 'weights in 4 bits, to the nearest: their input is inside a subgraph',
      rows: 'rows in 4 bits, to the nearest: rows of an embedding are looked up, not multiplied',
    })
    expect(sqnr((await outputs(source, feeds(5)))['y']!, (await outputs(variant, feeds(5)))['y']!)).toBeGreaterThan(10)
  })

  it('stops between matrices when told to', async () => {
    const source = network([K], ['n', N], [node('MatMul', ['x', 'w1'], ['h']), node('MatMul', ['h', 'w2'], ['y'])], [w1, w2])
    const [step] = parseRecipe('int4(method=gptq,minWeights=0)').recipe!
    const abort = new AbortController()
    const onProgress = () => abort.abort(new Error('enough'))
    const stopped = withFolder((workDir) =>
      passNamed('int4')!.run(source, step!, {
        loadOriginal: () => Promise.resolve(source),
        device: 'cpu',
        samples,
        maxBatch: 8,
        threads: 1,
        workDir,
        signal: abort.signal,
        onProgress,
      }),
    )
    await expect(stopped).rejects.toThrow('enough')
  })

  it('names an input that is not finite', async () => {
    const broken: Samples = {
      ...noiseSamples([K]),
      take: (_, count) => ({ x: { dtype: 'float32', dims: [count, K], data: new Float32Array(count * K).fill(Number.NaN) } }),
    }
    const source = network([K], ['n', N], [node('MatMul', ['x', 'w1'], ['y'])], [w1])
    await expect(compressed(source, 'int4(method=gptq)', broken)).rejects.toMatchObject({ code: 'invalid_model' })
  })
})
