// Channels taken out of networks. What is left must compute what the network given computes when the removed
// channels are zero, with as many multiply-accumulates as the pass said, and in a model that the runtime loads.
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Model, PassContext, PassResult } from '#flyweight/compress/passes/pass.js'
import { pruneChannels } from '#flyweight/compress/passes/prune-channels.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import type { Samples } from '#flyweight/compress/samples.js'
import { node, tensorProto, tensorValues } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { probeShapes } from '#flyweight/onnx/probe.js'
import { encodeModel, structuralCopy, type NodeProto } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { compressed, network, noiseSamples, outputs, sqnr, weights } from '../compressing.js'
import { noise } from '../../onnx/running.js'
import { architectures, prunableNetwork, ROW } from '../prunable-graphs.js'
import { randomGraph } from '../random-graphs.js'

type Kept = Record<string, { axis: number; of: number; kept: number[] }>

function keptChannels({ metadataProps }: Model): Kept {
  return JSON.parse(metadataProps.find(({ key }) => key === 'flyweight.kept')?.value ?? '{}') as Kept
}

/** Figures of the summary: multiply-accumulates left and before. */
function predicted({ summary }: PassResult): { left: number; before: number } {
  const [, left, before] = /left: (\d+) of (\d+)/.exec(summary) ?? []
  return { left: Number(left), before: Number(before) }
}

/** Multiply-accumulates of a row, counted on the shapes that the runtime sees: every output value of a product, times what it sums over. */
async function countedMacs(model: Model, row: Record<string, Tensor>): Promise<number> {
  const shapes = await probeShapes(model, [row], async (bytes, feeds, fetches) => {
    const session = await openSession(bytes, { optimization: 'disabled' })
    const found = await session.run(feeds, fetches)
    await session.release()
    return found
  })
  const count = (name = '') => (shapes.get(name)?.dims ?? []).reduce((a, b) => a * b, 1)
  const macs = ({ opType, input: [x = '', w = ''], output: [y = ''] }: NodeProto) => {
    if (opType === 'Conv') return count(y) * (count(w) / (shapes.get(w)?.dims[0] as number))
    if (opType === 'ConvTranspose') return count(x) * (count(w) / (shapes.get(w)?.dims[0] as number))
    if (opType === 'Gemm' || opType === 'MatMul') return count(y) * (shapes.get(x)?.dims.at(-1) as number)
    return 0
  }
  return model.graph.node.reduce((sum, one) => sum + macs(one), 0)
}

/** The model given, with zeros for the weights, biases and normalizations that write the channels that are gone. */
function silenced(source: Model, kept: Kept): Model {
  const model = structuralCopy(source)
  const silence = (name: string | undefined, axis: number, stay: readonly number[]) => {
    const proto = model.graph.initializer.find((one) => one.name === name)
    if (proto === undefined) return
    const { dims, data } = tensorValues(proto)
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1)
    const values = (data as Float32Array).map((value, i) => (stay.includes(Math.floor(i / inner) % dims[axis]!) ? value : 0))
    proto.rawData = new Uint8Array(values.buffer)
  }
  for (const { opType, input, output, attribute } of model.graph.node) {
    const channels = kept[output[0] ?? '']
    if (channels !== undefined) {
      const transposed = Number(attribute.find(({ name }) => name === 'transB')?.i ?? 0) !== 0
      silence(input[1], opType === 'Conv' || transposed ? 0 : 1, channels.kept)
      silence(input[2], 0, channels.kept)
    }
    const read = kept[input[0] ?? '']
    if (read !== undefined && opType === 'BatchNormalization') for (const name of input.slice(1, 3)) silence(name, 0, read.kept)
    if (read !== undefined && opType === 'Add') silence(input[1], 0, read.kept)
  }
  return model
}

describe('prune-channels on networks of coupled channels', () => {
  it('leaves a network that computes what the source does with those channels at zero, in the predicted operations', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(architectures, async (architecture) => {
        const source = prunableNetwork(architecture)
        const samples = noiseSamples(ROW, 4)
        const result = await compressed(source, 'prune-channels(roundTo=2)', samples)
        const feeds = samples.take(1, 3)
        const [expected, actual] = [await outputs(silenced(source, keptChannels(result.model)), feeds), await outputs(result.model, feeds)]
        expect(sqnr(expected['y']!, actual['y']!)).toBeGreaterThan(90)
        const { left, before } = predicted(result)
        expect(left).toBe(await countedMacs(result.model, samples.take(0, 1)))
        expect(before).toBe(await countedMacs(source, samples.take(0, 1)))
        expect(left).toBeLessThan(0.62 * before)
      }),
      { numRuns: 40, seed: 1 },
    )
  })
})

describe('prune-channels on any model', () => {
  it('leaves what the source computes without the weights that are gone', { timeout: 60_000 }, async () => {
    let pruned = 0
    for (let seed = 1; seed <= 120; seed++) {
      const { model: source, samples, feeds } = randomGraph(seed)
      const { model } = await compressed(source, 'prune-channels(roundTo=1)', samples)
      if (Object.keys(keptChannels(model)).length === 0) continue
      pruned += 1
      const [expected, actual] = [await outputs(withoutGone(source, model), feeds(3, 0)), await outputs(model, feeds(3, 0))]
      // Dead outputs are equal zeros, which have no signal.
      for (const name in expected)
        if (expected[name]!.data.some(Boolean) || actual[name]!.data.some(Boolean))
          expect(sqnr(expected[name]!, actual[name]!), `randomGraph(${seed})`).toBeGreaterThan(60)
    }
    expect(pruned).toBeGreaterThan(40)
  })
})

/** The source with zeros (or ones, where something is divided by them) for all weights that are not in the smaller model: all of a random graph's are different. */
function withoutGone(source: Model, smaller: Model): Model {
  const model = structuralCopy(source)
  const left = new Map(smaller.graph.initializer.map((proto) => [proto.name, proto]))
  const divisors = new Set(model.graph.node.filter(({ opType }) => opType === 'Div').map(({ input }) => input[1]))
  const constants = model.graph.node.flatMap(({ opType, output, attribute }) => (opType === 'Constant' ? [{ name: output[0]!, proto: attribute[0]!.t! }] : []))
  for (const { name, proto } of [...model.graph.initializer.map((one) => ({ name: one.name, proto: one })), ...constants]) {
    const other = left.get(name)
    if (other === undefined || String(other.dims) === String(proto.dims)) continue
    const stay = new Set(tensorValues(other).data as Float32Array)
    const values = (tensorValues(proto).data as Float32Array).map((value) => (stay.has(value) ? value : divisors.has(name) ? 1 : 0))
    proto.rawData = new Uint8Array(values.buffer)
  }
  return model
}

/** x → 32 channels → 64 → 5, with a BatchNormalization after the first. */
function chain(seed = 1): Model {
  const nodes = [
    node('Conv', ['x', 'w1', 'b1'], ['c1'], { name: 'first' }),
    node('BatchNormalization', ['c1', 'scale', 'shift', 'mean', 'variance'], ['n1'], { name: 'norm' }),
    node('Relu', ['n1'], ['r1'], { name: 'relu' }),
    node('Conv', ['r1', 'w2'], ['c2'], { name: 'second' }),
    node('GlobalAveragePool', ['c2'], ['p'], { name: 'pool' }),
    node('Flatten', ['p'], ['f'], { name: 'flatten', attributes: { axis: 1 } }),
    node('Gemm', ['f', 'w3'], ['y'], { name: 'last' }),
  ]
  const ones = Array.from({ length: 32 }, () => 1)
  return network(ROW, ['n', 5], nodes, [
    weights('w1', [32, 3, 1, 1], { seed }),
    weights('b1', [32], { seed: seed + 1 }),
    tensorProto(
      'scale',
      'float32',
      [32],
      Array.from({ length: 32 }, (_, i) => 1 + i),
    ),
    weights('shift', [32], { seed: seed + 2 }),
    weights('mean', [32], { seed: seed + 3 }),
    tensorProto('variance', 'float32', [32], ones),
    weights('w2', [64, 32, 1, 1], { seed: seed + 4 }),
    weights('w3', [64, 5], { seed: seed + 5 }),
  ])
}

const samples = noiseSamples(ROW, 4)

describe('the choice of channels', () => {
  it.each([
    ['prune-channels', 16, 32],
    ['prune-channels(ratio=0.2,roundTo=1)', 26, 51],
    ['prune-channels(ratio=0.2)', 32, 48],
    ['prune-channels(ratio=0.9,maxRatio=0.6,roundTo=4)', 16, 28],
    ['prune-channels(roundTo=64)', 32, 64],
    ['prune-channels(exclude=second)', 32, 64],
  ])('%s keeps %i and %i', async (recipe, first, second) => {
    const { model } = await compressed(chain(), recipe, samples)
    const sizes = Object.fromEntries(model.graph.initializer.map(({ name, dims }) => [name, dims.map(Number)]))
    expect([sizes['w1'], sizes['scale'], sizes['w2'], sizes['w3']]).toEqual([[first, 3, 1, 1], [first], [second, first, 1, 1], [second, 5]])
  })

  it.each([
    ['macs', 0.3],
    ['size', 0.6],
  ] as const)('removes the share of %s that is asked for, and hardly more', async (target, ratio) => {
    const { summary } = await compressed(chain(), `prune-channels(target=${target},ratio=${ratio},roundTo=1)`, samples)
    const [macs, size] = [...summary.matchAll(/\((\d+\.?\d*) %\)/g)].map(([, percent]) => 1 - Number(percent) / 100)
    const removed = target === 'macs' ? macs! : size!
    expect(removed).toBeGreaterThanOrEqual(ratio - 0.001)
    expect(removed).toBeLessThan(ratio + 0.06)
  })

  it('keeps large weights, large scales, large activations, and what has large gradients, as it is told', async () => {
    const source = chain()
    const keptBy = async (importance: string, gradients?: PassContext['gradients']) => {
      const [step] = parseRecipe(`prune-channels(importance=${importance},roundTo=1,exclude=last)`).recipe!
      const context: PassContext = {
        loadOriginal: () => Promise.resolve(source),
        device: 'cpu',
        samples,
        maxBatch: 4,
        threads: 1,
        workDir: '/tmp',
        ...(gradients && { gradients }),
      }
      return keptChannels((await pruneChannels.run(source, step!, context)).model)['c1']?.kept
    }
    expect(await keptBy('bn-gamma')).toEqual(Array.from({ length: 16 }, (_, i) => 16 + i))
    const low = (_: unknown, names: readonly string[]) => {
      const sizes = new Map(source.graph.initializer.map(({ name, dims }) => [name, dims.map(Number)]))
      // Only what belongs to the first half has gradients.
      const one = (name: string) => {
        const [first = 1, second = 1] = sizes.get(name)!
        const channel = (i: number) => (name === 'w1' ? Math.floor(i / second) : i % second)
        return Float32Array.from({ length: first * second }, (__, i) => (channel(i) < 16 ? 1 : 0))
      }
      return Promise.resolve(new Map(names.map((name) => [name, one(name)])))
    }
    expect(await keptBy('gradient', low)).toEqual(Array.from({ length: 16 }, (_, i) => i))
    expect(await keptBy('random')).toEqual(await keptBy('random'))
    // Of every four channels, one is always silent after the normalization, and one meets weights that are zero.
    const tensor = (name: string) => source.graph.initializer.find((proto) => proto.name === name)!
    tensor('shift').rawData = new Uint8Array(Float32Array.from({ length: 32 }, (_, i) => (i % 4 === 0 ? -1000 : 1000)).buffer)
    const second = tensorValues(tensor('w2')).data as Float32Array<ArrayBuffer>
    tensor('w2').rawData = new Uint8Array(second.map((value, i) => (i % 4 === 1 ? 0 : value)).buffer)
    expect(await keptBy('activation')).toEqual(Array.from({ length: 16 }, (_, i) => 2 * i + 2 - (i % 2)))
  })

  it('takes from all groups what matters least, when it is told so', async () => {
    const source = chain()
    // Seven of eight channels of the second convolution hardly matter; of the first, all do the same.
    const rows = (name: string, factor: (i: number) => number) => {
      const proto = source.graph.initializer.find((one) => one.name === name)!
      const values = (tensorValues(proto).data as Float32Array<ArrayBuffer>).map((_, i) => factor(i))
      proto.rawData = new Uint8Array(values.buffer)
    }
    rows('w1', () => 1)
    rows('w2', (i) => (Math.floor(i / 32) < 8 ? 1 : 0.01))
    rows('w3', () => 1)
    const kept = keptChannels((await compressed(source, 'prune-channels(allocation=global,roundTo=1)', samples)).model)
    expect(kept['c1']).toBeUndefined()
    expect(kept['c2']?.kept).toEqual(expect.arrayContaining([0, 1, 2, 3, 4, 5, 6, 7]))
    expect(kept['c2']?.kept).toHaveLength(16)
  })
})

describe('what prune-channels tells', () => {
  it('gives every node a decision that says what is left, or why it stays', async () => {
    await expect(compressed(chain(), 'prune-channels(exclude=second|secnd)', samples)).rejects.toMatchObject({
      code: 'invalid_recipe',
      message: expect.stringContaining('exclude: got "secnd", expected names of nodes'),
    })
    const { decisions } = await compressed(chain(), 'prune-channels(exclude=second)', samples)
    expect(Object.fromEntries(decisions.map(({ node: name, action, reason }) => [name, `${action}: ${reason}`]))).toMatchObject({
      first: 'skipped: its outputs stay: excluded by the recipe; and its inputs: they are the size of a model input',
      relu: 'skipped: Relu has no channels that go',
      last: 'skipped: its outputs stay: they are the size of a model output; and its inputs: excluded by the recipe',
    })
    const done = await compressed(chain(), 'prune-channels', samples)
    expect(Object.fromEntries(done.decisions.map(({ node: name, action, reason }) => [name, `${action}: ${reason}`]))).toMatchObject({
      first: 'done: 16 of 32 outputs and 3 of 3 inputs are left',
      norm: 'done: 16 of 32 along axis 1 of "n1" are left',
      last: 'done: 5 of 5 outputs and 32 of 64 inputs are left; its outputs stay: they are the size of a model output',
    })
  })

  it('leaves a model without channels to remove as it is, and says so', async () => {
    const source = network([4], ['n', 3], [node('MatMul', ['x', 'w'], ['p'], { name: 'only' }), node('Softmax', ['p'], ['y'])], [weights('w', [4, 3])])
    const { model, summary, decisions } = await compressed(source, 'prune-channels', noiseSamples([4], 4))
    expect(summary).toBe('no channels that can go')
    expect(decisions.map(({ action }) => action)).toEqual(['skipped', 'skipped'])
    expect(encodeModel(model)).toEqual(encodeModel(source))
  })

  it.each([
    ['prune-channels(importance=gradient)', samples, /importance: got gradient, which needs the training engine/],
    [
      'prune-channels(target=macs,ratio=0.99)',
      samples,
      /ratio: got 0.99, but at most 0\.\d+ of the multiply-accumulates can go with maxRatio 0.9 and roundTo 16/,
    ],
    ['prune-channels', { ...samples, rows: 0 }, /needs at least one sample to see the shapes of tensors, got none/],
  ])('%s is refused with what came and what was expected', async (recipe, rows: Samples, message) => {
    await expect(compressed(chain(), recipe, rows)).rejects.toThrow(message)
  })
})

it('leaves lengths free that differ between samples', async () => {
  const nodes = [
    node('Reshape', ['x', 'flat'], ['rows'], { name: 'flatten' }),
    node('Gemm', ['rows', 'w1'], ['g']),
    node('Relu', ['g'], ['r']),
    node('Shape', ['x'], ['shape']),
    node('Slice', ['shape', 'zero', 'two'], ['outer']),
    node('Concat', ['outer', 'inner'], ['sizes'], { attributes: { axis: 0 } }),
    node('Reshape', ['r', 'sizes'], ['s']),
    node('MatMul', ['s', 'w2'], ['y']),
  ]
  const lists = Object.entries({ flat: [-1, 8], zero: [0], two: [2], inner: [16] }).map(([name, values]) => tensorProto(name, 'int64', [values.length], values))
  const source = network(['length', 8], ['n', 'length', 4], nodes, [weights('w1', [8, 16]), weights('w2', [16, 4]), ...lists])
  const lengths = [5, 5, 5, 7]
  const of = (length: number, count = 1) => ({ x: noise([count, length, 8]) })
  const uneven: Samples = {
    rows: 4,
    digest: 'uneven',
    take: (from, count) => of(lengths[from]!, count),
    alike: (from, most) => Math.min(most, from < 3 ? 3 - from : 1),
  }
  const { model } = await compressed(source, 'prune-channels(roundTo=1)', uneven)
  const kept = keptChannels(model)
  expect(kept['g']?.kept).toHaveLength(8)
  for (const length of [5, 7, 11]) {
    const [expected, actual] = [await outputs(silenced(source, kept), of(length, 2)), await outputs(model, of(length, 2))]
    expect(sqnr(expected['y']!, actual['y']!)).toBeGreaterThan(90)
  }
})

describe('channels stay', () => {
  const why = async (source: Model, rowDims: readonly number[]) =>
    (await compressed(source, 'prune-channels(roundTo=1)', noiseSamples(rowDims, 4))).decisions.find(({ node: name }) => name === 'first')?.reason

  it('when the model computes with their number', async () => {
    const nodes = [
      node('Conv', ['x', 'w1'], ['c'], { name: 'first' }),
      node('Shape', ['c'], ['shape'], { name: 'sizes' }),
      node('Gather', ['shape', 'one'], ['channels']),
      node('Cast', ['channels'], ['number'], { attributes: { to: 1 } }),
      node('Div', ['c', 'number'], ['scaled']),
      node('Conv', ['scaled', 'w2'], ['y']),
    ]
    const source = network(ROW, ['n', 4, 6, 6], nodes, [weights('w1', [8, 3, 1, 1]), weights('w2', [4, 8, 1, 1]), tensorProto('one', 'int64', [1], [1])])
    expect(await why(source, ROW)).toContain('its outputs stay: sizes (Shape) needs all of them')
  })

  it('when a reshape mixes them with the rows of a batch', async () => {
    const nodes = [
      node('Gemm', ['x', 'w1'], ['g'], { name: 'first' }),
      node('Transpose', ['g'], ['t'], { attributes: { perm: [1, 0] } }),
      node('Reshape', ['t', 'flat'], ['f'], { name: 'mix' }),
      node('Reshape', ['f', 'rows'], ['r']),
      node('Gemm', ['r', 'w2'], ['y']),
    ]
    const sizes = [tensorProto('flat', 'int64', [1], [-1]), tensorProto('rows', 'int64', [2], [-1, 8])]
    const source = network([6], ['n', 4], nodes, [weights('w1', [6, 8]), weights('w2', [8, 4]), ...sizes])
    expect(await why(source, [6])).toContain('its outputs stay: mix (Reshape) mixes axes')
  })
})

it('refers to the channels of the first model after pruning twice', async () => {
  const once = keptChannels((await compressed(chain(), 'prune-channels(ratio=0.25,roundTo=1)', samples)).model)
  const twice = keptChannels((await compressed(chain(), 'prune-channels(ratio=0.25,roundTo=1)+prune-channels(roundTo=1)', samples)).model)
  expect(twice['c1']).toMatchObject({ axis: 1, of: 32 })
  expect(twice['c1']?.kept).toHaveLength(12)
  expect(once['c1']?.kept).toEqual(expect.arrayContaining(twice['c1']!.kept))
})

describe('digits_vit as PyTorch exports it', () => {
  let source: Model
  beforeAll(async () => {
    source = await loadModel('tests/fixtures/digits_vit.onnx')
  })

  it('loses whole heads and neurons, though its reshapes merge heads with the batch', async () => {
    const { model } = await compressed(source, 'prune-channels', { ...noiseSamples([1, 28, 28], 4) })
    const sizes = Object.fromEntries(model.graph.initializer.map(({ name, dims }) => [name, dims.map(Number)]))
    expect([sizes['val_13'], sizes['val_70'], sizes['val_74'], sizes['val_76']]).toEqual([
      [64, 96],
      [32, 64],
      [64, 64],
      [64, 64],
    ])
    // Queries, keys and values of the same two heads of 16.
    const { kept } = keptChannels(model)['val_14']!
    const heads = [...new Set(kept.map((i) => Math.floor((i % 64) / 16)))]
    expect(heads).toHaveLength(2)
    expect(kept).toEqual([0, 1, 2].flatMap((part) => heads.flatMap((head) => Array.from({ length: 16 }, (_, i) => part * 64 + head * 16 + i))))
  })

  it('loses channels of its residual stream only when told so', async () => {
    const { model } = await compressed(source, 'prune-channels(normalized=true)', noiseSamples([1, 28, 28], 4))
    expect(model.graph.initializer.find(({ name }) => name === 'patch.weight')?.dims.map(Number)).toEqual([32, 1, 4, 4])
    const [{ dims } = { dims: [] }] = Object.values(await outputs(model, noiseSamples([1, 28, 28], 4).take(0, 2)))
    expect(dims).toEqual([2, 10])
  })
})
