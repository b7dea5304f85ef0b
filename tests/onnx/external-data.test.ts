import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { model, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { externalFiles, resolveExternalFile } from '#flyweight/onnx/external-data.js'
import { loadModel, saveModel } from '#flyweight/onnx/load.js'
import { create, DataLocation, encodeModel, StringStringEntryProtoSchema, type ModelProto } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { floats, largestDifference, noise, run } from './running.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flyweight-external-'))
  await mkdir(join(folder, 'model'))
  await writeFile(join(folder, 'secret'), new Uint8Array(64))
})
afterEach(() => rm(folder, { recursive: true }))

/** y = x + w, where w has four floats in an external file. */
function external(entries: Record<string, string>): ModelProto {
  const w = tensorProto('w', 'float32', [4], [0, 0, 0, 0])
  w.rawData = new Uint8Array()
  w.dataLocation = DataLocation.EXTERNAL
  w.externalData = Object.entries(entries).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }))
  return model({
    inputs: [valueInfo('x', 'float32', [4])],
    outputs: [valueInfo('y', 'float32', [4])],
    nodes: [node('Add', ['x', 'w'], ['y'])],
    initializers: [w],
  })
}

async function load(entries: Record<string, string>) {
  const file = join(folder, 'model', 'model.onnx')
  await writeFile(file, encodeModel(external(entries)))
  return loadModel(file)
}

describe('external data', () => {
  it('is read at its offset and length, from a subfolder too', async () => {
    await mkdir(join(folder, 'model', 'weights'))
    await writeFile(join(folder, 'model', 'weights', 'w.bin'), new Uint8Array(Float32Array.of(9, 1, 2, 3, 4, 9).buffer))
    const loaded = await load({ location: 'weights/w.bin', offset: '4', length: '16' })
    expect(tensorValues(loaded.graph.initializer[0]!).data).toEqual(Float32Array.of(1, 2, 3, 4))
    expect(await run(loaded, { x: floats([4], [1, 1, 1, 1]) })).toEqual({ y: floats([4], [2, 3, 4, 5]) })
  })

  it('without offset and length is the whole file', async () => {
    await writeFile(join(folder, 'model', 'w.bin'), new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer))
    const loaded = await load({ location: 'w.bin' })
    expect(tensorValues(loaded.graph.initializer[0]!).data).toEqual(Float32Array.of(1, 2, 3, 4))
  })

  it.each(['../secret', '/etc/hostname', 'a/../../secret', '..\\secret', 'C:\\secret', '\\\\host\\share', '', 'w.bin\0', './..'])(
    'refuses the location %j',
    async (location) => {
      await expect(load({ location, length: '16' })).rejects.toMatchObject({ name: 'FlyweightError', code: 'invalid_model' })
      expect(() => externalFiles(external({ location }))).toThrow(FlyweightError)
    },
  )

  it('refuses links that lead out of the folder, of a file and of a folder', async () => {
    await symlink(join(folder, 'secret'), join(folder, 'model', 'link'))
    await symlink(folder, join(folder, 'model', 'up'))
    await expect(load({ location: 'link', length: '16' })).rejects.toThrow(/"link" is a link that leads out/)
    await expect(load({ location: 'up/secret', length: '16' })).rejects.toThrow(/"up\/secret" is a link that leads out/)
  })

  it('allows a link inside the folder', async () => {
    await writeFile(join(folder, 'model', 'w.bin'), new Uint8Array(16))
    await symlink('w.bin', join(folder, 'model', 'link'))
    expect((await load({ location: 'link' })).graph.initializer[0]?.rawData).toHaveLength(16)
    expect(await resolveExternalFile(join(folder, 'model'), 'link')).toMatch(/w\.bin$/)
  })

  it.each([
    ['an offset past the end', { offset: '64', length: '16' }, /bytes 64 to 80 .* lie outside of its 32 bytes/],
    ['an offset past the end without a length', { offset: '64' }, /lie outside/],
    ['a length past the end', { offset: '20', length: '16' }, /lie outside/],
    ['a length that does not fit the dims', { length: '12' }, /do not fit dims \[4\], which need 16 bytes/],
    ['a negative offset', { offset: '-4', length: '16' }, /offset is "-4"/],
    ['a huge offset', { offset: '99999999999999999999', length: '16' }, /offset is "9+"/],
    ['a length in words', { length: 'many' }, /length is "many"/],
  ])('refuses %s', async (_, entries, reason) => {
    await writeFile(join(folder, 'model', 'w.bin'), new Uint8Array(32))
    await expect(load({ location: 'w.bin', ...entries })).rejects.toThrow(reason)
    await expect(load({ location: 'w.bin', ...entries })).rejects.toThrow(/tensor "w"/)
    await expect(load({ location: 'w.bin', ...entries })).rejects.toThrow(FlyweightError)
  })

  it('refuses a missing file, a folder, and an entry without location', async () => {
    await expect(load({ location: 'absent' })).rejects.toThrow(/"absent" cannot be read/)
    await mkdir(join(folder, 'model', 'dir'))
    await expect(load({ location: 'dir' })).rejects.toThrow(/not a plain file/)
    await expect(load({ length: '16' })).rejects.toThrow(/without a location/)
  })

  it('lists each file once', () => {
    const two = external({ location: 'b' })
    two.graph!.initializer.push(...external({ location: 'a' }).graph!.initializer, ...external({ location: 'b' }).graph!.initializer)
    expect(externalFiles(two)).toEqual(['a', 'b'])
  })
})

describe('saving', () => {
  const weights = noise([64, 32], 3)
  const make = () =>
    model({
      inputs: [valueInfo('x', 'float32', ['n', 64])],
      outputs: [valueInfo('y', 'float32', ['n', 16])],
      nodes: [node('MatMul', ['x', 'a'], ['h']), node('MatMul', ['h', 'b'], ['m']), node('Add', ['m', 'c'], ['y'])],
      initializers: [
        tensorProto('a', 'float32', [64, 32], weights.data as Float32Array<ArrayBuffer>),
        tensorProto('b', 'float32', [32, 16], noise([32, 16], 4).data as Float32Array<ArrayBuffer>),
        tensorProto('c', 'float32', [16], noise([16], 5).data as Float32Array<ArrayBuffer>),
      ],
    })

  it('keeps a small model in one file', async () => {
    await saveModel(make(), join(folder, 'm.onnx'))
    await expect(stat(join(folder, 'm.onnx.data'))).rejects.toThrow(/ENOENT/)
    expect(await loadModel(join(folder, 'm.onnx'))).toEqual(make())
  })

  it('moves large weights to a file that the runtime and loadModel read, and leaves the model as it was', async () => {
    const original = make()
    const file = join(folder, 'm.onnx')
    await saveModel(original, file, { externalThresholdBytes: 5000 })
    expect(original).toEqual(make())
    expect((await stat(file)).size).toBeLessThan(1500)
    expect((await stat(`${file}.data`)).size).toBe(8192 + 2048)
    const session = await openSession(file)
    const feeds = { x: noise([2, 64], 6) }
    expect(largestDifference(await session.run(feeds), await run(original, feeds, 'all'))).toBe(0)
    await session.release()
    const loaded = await loadModel(file)
    expect(loaded.graph.initializer.map(tensorValues)).toEqual(original.graph.initializer.map(tensorValues))
  })

  it('writes the same bytes for the same model', async () => {
    const [a, b] = [join(folder, 'a'), join(folder, 'b')]
    for (const place of [a, b]) {
      await mkdir(place)
      await saveModel(make(), join(place, 'm.onnx'), { externalThresholdBytes: 0 })
    }
    for (const name of ['m.onnx', 'm.onnx.data']) expect(await readFile(join(a, name))).toEqual(await readFile(join(b, name)))
  })
})

describe('loading', () => {
  it('says what is wrong with a missing file and with bytes that are no model', async () => {
    await expect(loadModel(join(folder, 'absent.onnx'))).rejects.toMatchObject({ code: 'invalid_model', message: expect.stringContaining('absent.onnx') })
    await writeFile(join(folder, 'bad.onnx'), 'this is text')
    await expect(loadModel(join(folder, 'bad.onnx'))).rejects.toMatchObject({ code: 'invalid_model', message: expect.stringContaining('not an ONNX file') })
  })
})

it('shares the bytes that are known already, if they are the same', async () => {
  const weights = tensorProto('w', 'float32', [512], noise([512]).data as Float32Array<ArrayBuffer>)
  const file = join(folder, 'model', 'model.onnx')
  const source = model({
    inputs: [valueInfo('x', 'float32', [512])],
    outputs: [valueInfo('y', 'float32', [512])],
    nodes: [node('Add', ['x', 'w'], ['y'])],
    initializers: [weights],
  })
  await saveModel(source, file, { externalThresholdBytes: 0 })
  const changed = new Uint8Array(weights.rawData)
  changed[2047]! ^= 1
  for (const [known, shared] of [
    [weights.rawData, true],
    [changed, false],
    [changed.subarray(4), false],
  ] as const) {
    const { graph } = await loadModel(file, { known: new Map([['w', known]]) })
    expect(graph.initializer[0]?.rawData === known).toBe(shared)
    expect(tensorValues(graph.initializer[0]!).data).toEqual(tensorValues(weights).data)
  }
})
