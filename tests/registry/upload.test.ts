// Adding and removing models through the repository, on a real folder with real probation.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { scaleModel } from '../scale-model.js'
import { externalModel, put } from './models.js'
import { catalog, events, factorOf, folder, models, repository, restart, start, store } from './opened.js'

describe('an upload', () => {
  const upload = (factor: number) => put(folder, `upload-${factor}.onnx`, scaleModel(factor))

  it('is served at once, as the version asked for or one above the newest', async () => {
    await start()
    expect(await repository.add({ name: 'scale', modelFile: upload(2), manifest: { sla: { latencyMs: 9 } } })).toMatchObject({
      name: 'scale',
      version: '1',
      manifest: { sla: { latencyMs: 9 } },
    })
    expect(await repository.add({ name: 'scale', version: '7', modelFile: upload(7) })).toMatchObject({ version: '7', manifest: { sla: { latencyMs: 9 } } })
    expect((await repository.add({ name: 'scale', modelFile: upload(8) })).version).toBe('8')
    expect([await factorOf('scale', '1'), await factorOf('scale', '7'), await factorOf('scale')]).toEqual([2, 7, 8])
    await restart()
    expect(await factorOf('scale')).toBe(8)
    expect(readdirSync(models)).toEqual(['scale'])
  })

  it('brings its external data', async () => {
    await start()
    const w = put(folder, 'up/w.bin', new Uint8Array(Float32Array.of(2, 2, 2, 2).buffer))
    await repository.add({ name: 'plus', modelFile: put(folder, 'up/net.onnx', externalModel('w.bin')), externalFiles: [w] })
    expect(await factorOf('plus')).toBe(3)
  })

  it('conflicts with a version that exists, and changes nothing', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    await expect(repository.add({ name: 'scale', version: '1', modelFile: upload(3) })).rejects.toMatchObject({ code: 'conflict' })
    expect(await factorOf('scale')).toBe(2)
    expect(readFileSync(join(models, 'scale', '1', 'model.onnx'))).toEqual(Buffer.from(scaleModel(2)))
    expect(readdirSync(models)).toEqual(['scale'])
  })

  it('conflicts with the version that a model.yaml gives', async () => {
    put(folder, 'node_modules/weights/net.onnx', scaleModel(4))
    put(models, 'a/model.yaml', 'source: npm:weights/net.onnx\n')
    await start()
    await expect(repository.add({ name: 'a', version: '1', modelFile: upload(3) })).rejects.toMatchObject({ code: 'conflict' })
    expect((await repository.add({ name: 'a', modelFile: upload(3) })).version).toBe('2')
    expect([await factorOf('a', '1'), await factorOf('a')]).toEqual([4, 3])
  })

  it('that is broken or ill-named leaves nothing behind', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    const bad = put(folder, 'bad.onnx', 'not a model')
    await expect(repository.add({ name: 'scale', modelFile: bad })).rejects.toMatchObject({ code: 'invalid_model' })
    for (const name of ['../escape', '', 'a/b', '.hidden']) {
      await expect(repository.add({ name, modelFile: upload(3) })).rejects.toMatchObject({ code: 'malformed', errors: [{ pointer: '/name' }] })
    }
    for (const version of ['../2', '01', 'two', '']) {
      await expect(repository.add({ name: 'scale', version, modelFile: upload(3) })).rejects.toMatchObject({
        code: 'malformed',
        errors: [{ pointer: '/version' }],
      })
    }
    expect(readdirSync(models, { recursive: true, encoding: 'utf8' }).sort()).toEqual(['scale', 'scale/1', 'scale/1/model.onnx'])
    expect(repository.list()).toEqual([{ name: 'scale', version: '1', state: 'READY', reason: '' }])
  })

  it('twice at the same time becomes two versions', async () => {
    await start()
    const added = await Promise.all([2, 3].map((factor) => repository.add({ name: 'scale', modelFile: upload(factor) })))
    expect(added.map(({ version }) => version).sort()).toEqual(['1', '2'])
    expect([await factorOf('scale', '1'), await factorOf('scale', '2')].sort((a, b) => a - b)).toEqual([2, 3])
  })
})

describe('removing', () => {
  it('deletes one version, or the model: files, variants and artifacts', async () => {
    for (const version of [1, 2, 3]) put(models, `scale/${version}/model.onnx`, scaleModel(version))
    put(models, 'twin/1/model.onnx', scaleModel(3))
    await start()
    const digests = repository.versions('scale').map(({ digest }) => digest)
    await repository.remove('scale', '2')
    expect(repository.versions('scale').map(({ version }) => version)).toEqual(['3', '1'])
    expect(existsSync(join(models, 'scale', '2'))).toBe(false)
    expect(digests.map((digest) => store.has(digest))).toEqual([true, false, true])
    await repository.remove('scale')
    expect(() => repository.resolve('scale')).toThrow(expect.objectContaining({ code: 'model_not_found' }))
    expect(existsSync(join(models, 'scale'))).toBe(false)
    expect(catalog.allVariants().map(({ id }) => id)).toEqual(['twin:1:fp32'])
    // The twin has the same file as version 3.
    expect(digests.map((digest) => store.has(digest))).toEqual([true, false, false])
    expect(await factorOf('twin')).toBe(3)
    expect(events.filter((event) => event.startsWith('gone')).sort()).toEqual(['gone scale 1', 'gone scale 2', 'gone scale 3'])
  })

  it('refuses what is not there, and a version that comes from model.yaml', async () => {
    put(folder, 'node_modules/weights/net.onnx', scaleModel(4))
    put(models, 'a/model.yaml', 'source: npm:weights/net.onnx\n')
    await start()
    await expect(repository.remove('nobody')).rejects.toMatchObject({ code: 'model_not_found' })
    await expect(repository.remove('a', '2')).rejects.toMatchObject({ code: 'model_not_found' })
    await expect(repository.remove('a', '1')).rejects.toMatchObject({ code: 'conflict' })
    expect(await factorOf('a')).toBe(4)
    await repository.remove('a')
    expect(repository.list()).toEqual([])
    expect(existsSync(join(folder, 'node_modules', 'weights', 'net.onnx'))).toBe(true)
  })
})
