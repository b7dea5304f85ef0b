import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { RemoteHost } from '#flyweight/grpc/remote-host.js'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { saveModel } from '#flyweight/onnx/load.js'
import { create, DataLocation, encodeModel, StringStringEntryProtoSchema } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { scaleModel } from '../scale-model.js'
import { connect } from './client.js'
import { startNode, type TestNode } from './node.js'

let folder: string
let target: TestNode
const hosts: RemoteHost[] = []
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-remote-'))
  writeFileSync(join(folder, 'scale.onnx'), scaleModel(3))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))
beforeEach(async () => {
  target = await startNode()
})
afterEach(async () => {
  await Promise.all(hosts.splice(0).map((host) => host.close()))
  await target.stop()
})

async function open({ port = target.port, key = 'secret' } = {}): Promise<RemoteHost> {
  const host = await RemoteHost.connect({ device: `grpc://127.0.0.1:${port}`, key })
  hosts.push(host)
  return host
}
const stageFile = () => join(folder, 'scale.onnx')
const rows = (count: number): Record<string, Tensor> => ({
  x: { dtype: 'float32', dims: [count, 4], data: Float32Array.from({ length: count * 4 }, (_, i) => i) },
})
const lost = (host: RemoteHost) => new Promise<string>((resolve) => host.onLost(resolve))

describe('a remote stage', () => {
  it.each([1, 3, 50_000])('runs there as here: %i rows', async (count) => {
    const host = await open()
    expect(await host.load('stage', stageFile())).toEqual({ loadMs: expect.any(Number) as number, residentBytes: scaleModel(3).byteLength })
    const { outputs, runMs, spent } = await host.run('stage', rows(count))
    expect(outputs['y']).toMatchObject({ dtype: 'float32', dims: [count, 4] })
    expect((outputs['y']!.data as Float32Array).findIndex((value, i) => value !== i * 3)).toBe(-1)
    expect(runMs).toBeGreaterThan(0)
    expect(spent).toHaveLength(1)
  })

  it('carries several values of any type, and only the outputs asked for', async () => {
    const proto = model({
      inputs: [valueInfo('a', 'string', ['n']), valueInfo('b', 'int64', ['m', 2]), valueInfo('c', 'float16', ['k'])],
      outputs: [valueInfo('d', 'string', ['n']), valueInfo('e', 'int64', ['m', 2]), valueInfo('f', 'float16', ['k'])],
      nodes: [node('Identity', ['a'], ['d']), node('Identity', ['b'], ['e']), node('Identity', ['c'], ['f'])],
    })
    writeFileSync(join(folder, 'mixed.onnx'), encodeModel(proto))
    const host = await open()
    await host.load('mixed', join(folder, 'mixed.onnx'))
    const feeds: Record<string, Tensor> = {
      a: { dtype: 'string', dims: [2], data: ['né', ''] },
      b: { dtype: 'int64', dims: [1, 2], data: BigInt64Array.of(-1n, 2n ** 60n) },
      c: { dtype: 'float16', dims: [3], data: Uint16Array.of(1, 2, 3) },
    }
    const { outputs } = await host.run('mixed', feeds)
    expect(outputs).toEqual({ d: feeds['a'], e: feeds['b'], f: feeds['c'] })
    expect(Object.keys((await host.run('mixed', feeds, ['e'])).outputs)).toEqual(['e'])
  })

  it('is sent once, with only the data that it refers to, in as many parts as that takes', async () => {
    const size = 2_000_000
    const proto = model({
      inputs: [valueInfo('x', 'float32', ['n', 1])],
      outputs: [valueInfo('y', 'float32', ['n', size])],
      nodes: [node('Mul', ['x', 'w'], ['y'])],
      initializers: [
        tensorProto(
          'w',
          'float32',
          [size],
          Float32Array.from({ length: size }, (_, i) => i),
        ),
      ],
    })
    await saveModel(proto, join(folder, 'large.onnx'), { externalThresholdBytes: 0 })
    const put = vi.spyOn(target.store, 'putDirectory')
    const host = await open()
    const { residentBytes } = await host.load('large', join(folder, 'large.onnx'))
    expect(residentBytes).toBeGreaterThan(size * 4)
    const { outputs } = await host.run('large', { x: { dtype: 'float32', dims: [1, 1], data: Float32Array.of(2) } })
    expect((outputs['y']!.data as Float32Array).at(-1)).toBe(2 * (size - 1))
    await host.unload('large')
    await expect(host.run('large', {})).rejects.toMatchObject({ code: 'inference_failed', message: expect.stringContaining('is not loaded') as string })
    await host.load('again', join(folder, 'large.onnx'))
    expect(put).toHaveBeenCalledTimes(1)
  })

  it('says what the runtime says of feeds that do not fit, and is not lost by it', async () => {
    const host = await open()
    await host.load('stage', stageFile())
    await expect(host.run('stage', { x: { dtype: 'float32', dims: [1, 5], data: new Float32Array(5) } })).rejects.toMatchObject({ code: 'invalid_input' })
    expect((await host.run('stage', rows(1))).outputs['y']!.dims).toEqual([1, 4])
  })

  it('stays loaded for one gateway when another unloads it', async () => {
    const [one, two] = [await open(), await open()]
    await one.load('stage', stageFile())
    await two.load('stage', stageFile())
    await one.unload('stage')
    await expect(two.run('stage', rows(1))).resolves.toBeDefined()
    await two.close()
    const reason = lost(one)
    await one.load('stage', stageFile())
    await expect(one.run('stage', rows(1))).resolves.toBeDefined()
    await one.unload('stage')
    expect(await Promise.race([reason, Promise.resolve('not lost')])).toBe('not lost')
  })
})

it('keeps a stage that is loaded anew while its former key is unloaded', async () => {
  const host = await open()
  await host.load('first', stageFile())
  await Promise.all([host.load('second', stageFile()), host.unload('first')])
  expect((await host.run('second', rows(1))).outputs['y']!.dims).toEqual([1, 4])
})

describe('a node that is lost', () => {
  it('fails what is under way, says so once, and is found again by a new host', async () => {
    const host = await open()
    await host.load('stage', stageFile())
    const listener = vi.fn<(reason: string) => void>()
    host.onLost(listener)
    const reason = lost(host)
    const runs = Array.from({ length: 8 }, () => host.run('stage', rows(20_000)))
    const settled = Promise.allSettled(runs)
    await target.stop()
    expect(await reason).toMatch(/ModelInfer|ServerLive/)
    for (const run of await settled) if (run.status === 'rejected') expect(run.reason).toMatchObject({ code: 'inference_failed' })
    await expect(host.run('stage', rows(1))).rejects.toMatchObject({ code: 'inference_failed', message: expect.stringContaining('is gone') as string })
    expect(listener).toHaveBeenCalledTimes(1)
    expect(await lost(host)).toBe(await reason)
    await expect(open()).rejects.toMatchObject({ code: 'inference_failed' })
    target = await startNode()
    await expect(open()).resolves.toBeDefined()
  })

  it('is one that has forgotten a stage, by silence', async () => {
    const silent = await startNode({ leaseMs: 100 })
    const host = await open({ port: silent.port })
    await host.load('stage', stageFile())
    const other = connect(silent.port)
    await vi.waitFor(
      async () => {
        expect(await other.call('ModelReady', { name: names(silent)[0] })).toEqual({ ready: false })
      },
      { timeout: 10_000 },
    )
    other.close()
    const reason = lost(host)
    await expect(host.run('stage', rows(1))).rejects.toMatchObject({ code: 'inference_failed' })
    expect(await reason).toContain('is not loaded here')
    await silent.stop()
  })

  it('is one that does not answer at all', async () => {
    const mute = createServer(() => {})
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
    await expect(open({ port: (mute.address() as AddressInfo).port })).rejects.toMatchObject({ code: 'inference_failed' })
    mute.close()
  })
})

/** Stages that the node has kept. */
function names({ store, folder: root }: TestNode): string[] {
  return readdirSync(join(root, 'data')).flatMap((name) => (store.has(name) ? [`stage-${name}`] : []))
}

describe('the key', () => {
  it.each([
    ['another', 'unauthorized'],
    ['', 'unauthorized'],
  ])('must be the same: %j', async (key, code) => {
    await expect(open({ key })).rejects.toMatchObject({ code })
    const client = connect(target.port)
    const load = { model_name: `stage-${'0'.repeat(64)}`, parameters: { 'file:1/model.onnx': { bytes_param: Buffer.from(scaleModel(2)) } } }
    const metadata: Record<string, string> = key === '' ? {} : { authorization: `Bearer ${key}` }
    for (const method of ['RepositoryModelLoad', 'RepositoryModelUnload', 'ModelInfer']) {
      await expect(client.call(method, method === 'ModelInfer' ? { model_name: load.model_name } : load, { metadata })).rejects.toThrow('authorization is')
    }
    client.close()
  })

  it('must be there: a node without one takes no stages', async () => {
    const closed = await startNode({ key: '' })
    await expect(open({ port: closed.port, key: '' })).rejects.toMatchObject({ code: 'forbidden' })
    await closed.stop()
  })
})

/** A model whose one weight lies in a file beside it. */
function elsewhere(location: string): Uint8Array {
  const weight = tensorProto('w', 'float32', [4], [])
  weight.dataLocation = DataLocation.EXTERNAL
  weight.externalData = [create(StringStringEntryProtoSchema, { key: 'location', value: location })]
  const io = { inputs: [valueInfo('x', 'float32', [4])], outputs: [valueInfo('y', 'float32', [4])] }
  return encodeModel(model({ ...io, nodes: [node('Add', ['x', 'w'], ['y'])], initializers: [weight] }))
}

describe('what is sent', () => {
  const metadata = { authorization: 'Bearer secret', 'flyweight-gateway': 'test' }
  const name = `stage-${'0'.repeat(64)}`
  const file = (bytes: Uint8Array) => ({ 'file:1/model.onnx': { bytes_param: bytes } })

  it.each([
    ['another digest', name, file(scaleModel(2)), 'came with the digest'],
    ['a name without a digest', 'mine', file(scaleModel(2)), '/model_name is "mine", expected stage-<SHA-256>'],
    ['a path out of its folder', name, { 'file:1/../model.onnx': { bytes_param: Buffer.of(1) } }, 'is not a parameter here'],
    ['a part that does not follow', name, { ...file(Buffer.of(1)), flyweight_offset: { int64_param: 7 } }, 'is 7, expected 0, where model.onnx ends'],
    ['no model', name, { 'file:1/weights.bin': { bytes_param: Buffer.of(1) } }, 'came without model.onnx'],
    ['data that was not sent with it', name, file(elsewhere('../secret')), 'is not a path inside'],
    ['data that was forgotten', name, file(elsewhere('weights.bin')), 'external data file "weights.bin" cannot be read'],
    ['no file at all', name, { flyweight_more: { bool_param: false } }, 'have no files'],
    ['more than a stage may have', name, file(new Uint8Array(2000)), 'is larger than 1000 bytes'],
  ])('is refused: %s', async (_, model_name, parameters, text) => {
    const small = await startNode({ maxStageBytes: 1000 })
    const client = connect(small.port)
    await expect(client.call('RepositoryModelLoad', { model_name, parameters }, { metadata })).rejects.toThrow(text)
    await expect(client.call('RepositoryModelLoad', { model_name: name }, { metadata })).rejects.toThrow(`there is no ${name} here`)
    client.close()
    await small.stop()
  })
})
