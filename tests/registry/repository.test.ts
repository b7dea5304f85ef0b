// The repository on a real folder, with real probation: what is dropped in is served, what is broken disturbs nothing that works.
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { scaleModel } from '../scale-model.js'
import { externalModel, put, variantOf } from './models.js'
import { catalog, events, factorOf, folder, inspected, models, repository, restart, start, status, store } from './opened.js'

describe('a folder of models', () => {
  it('is served: every version by its number, the newest by default', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    put(models, 'scale/9/model.onnx', scaleModel(9))
    put(models, 'scale/10/model.onnx', scaleModel(10))
    put(models, 'scale/draft/model.onnx', scaleModel(5))
    put(models, 'notes.txt', 'no model')
    put(models, '.hidden/1/model.onnx', scaleModel(3))
    mkdirSync(join(models, 'empty'))
    await start()
    expect(repository.list()).toEqual(['10', '9', '1'].map((version) => ({ name: 'scale', version, state: 'READY', reason: '' })))
    expect(repository.versions('scale').map(({ version }) => version)).toEqual(['10', '9', '1'])
    expect(await factorOf('scale')).toBe(10)
    expect(await factorOf('scale', '9')).toBe(9)
    expect(repository.resolve('scale').signature).toMatchObject({
      inputs: [{ name: 'x', dtype: 'float32', dims: ['n', 4] }],
      outputs: [{ name: 'y', dtype: 'float32', dims: ['n', 4] }],
      batchable: true,
      operators: { Mul: 1 },
    })
    expect(catalog.variants('scale', '10')).toMatchObject([{ id: 'scale:10:fp32', source: true, state: 'ready', digest: repository.resolve('scale').digest }])
    expect(() => repository.resolve('scale', '11')).toThrow(
      expect.objectContaining({ code: 'model_not_found', message: 'model scale has no version 11, only 10, 9, 1' }),
    )
    expect(() => repository.resolve('other')).toThrow(expect.objectContaining({ code: 'model_not_found' }))
  })

  it('is looked through once: a restart inspects nothing again', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    expect(inspected).toHaveLength(1)
    const before = repository.resolve('scale')
    await restart()
    expect(inspected).toEqual([])
    expect(repository.resolve('scale')).toEqual(before)
  })

  it('is followed: a new version appears and is served, and goes when it is taken away', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start({ watch: true })
    put(models, 'scale/2/model.onnx', scaleModel(3))
    put(models, 'later/1/model.onnx', scaleModel(7))
    await vi.waitFor(() => expect([repository.resolve('scale').version, repository.resolve('later').version]).toEqual(['2', '1']), 20_000)
    expect(await factorOf('scale')).toBe(3)
    expect(await factorOf('scale', '1')).toBe(2)
    rmSync(join(models, 'scale', '2'), { recursive: true })
    await vi.waitFor(() => expect(repository.resolve('scale').version).toBe('1'), 20_000)
    expect(events).toContain('gone scale 2')
    expect(status('scale')).toEqual([{ name: 'scale', version: '1', state: 'READY', reason: '' }])
  })

  it('shows external data as part of its version', async () => {
    put(models, 'plus/1/weights/w.bin', new Uint8Array(Float32Array.of(1, 1, 1, 1).buffer))
    put(models, 'plus/1/model.onnx', externalModel('weights/w.bin'))
    await start()
    expect(await factorOf('plus')).toBe(2)
    put(models, 'plus/1/weights/w.bin', new Uint8Array(Float32Array.of(5, 5, 5, 5).buffer))
    await repository.load('plus')
    expect(await factorOf('plus')).toBe(6)
  })
})

describe('what is broken', () => {
  it('as a new version leaves the old one serving, and is listed with its reason', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    put(models, 'scale/2/model.onnx', 'not a model')
    await expect(repository.load('scale')).rejects.toMatchObject({ code: 'invalid_model', message: expect.stringContaining('scale') as string })
    expect(await factorOf('scale')).toBe(2)
    expect(() => repository.resolve('scale', '2')).toThrow(expect.objectContaining({ code: 'model_not_ready' }))
    const [broken, serving] = status('scale')
    expect(broken).toMatchObject({ version: '2', state: 'UNAVAILABLE', reason: expect.stringMatching(/\w+/) as string })
    expect(serving).toEqual({ name: 'scale', version: '1', state: 'READY', reason: '' })
    expect(readdirSync(join(folder, 'data')).filter((name) => /^[0-9a-f]{64}$/.test(name))).toEqual([repository.resolve('scale').digest])

    put(models, 'scale/2/model.onnx', scaleModel(3))
    await repository.load('scale')
    expect(await factorOf('scale')).toBe(3)
  })

  it('in place of a version that served leaves what it was serving, and says so', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    put(models, 'scale/1/model.onnx', scaleModel(2).subarray(0, 40))
    await expect(repository.load('scale')).rejects.toMatchObject({ code: 'invalid_model' })
    expect(await factorOf('scale')).toBe(2)
    expect(status('scale')).toEqual([
      { name: 'scale', version: '1', state: 'READY', reason: expect.stringContaining('still served as it was before') as string },
    ])
    expect(events).toEqual(['ready scale 1'])
  })

  it('from the start is not served, with its reason', async () => {
    put(models, 'bad/1/model.onnx', 'not a model')
    put(models, 'good/1/model.onnx', scaleModel(2))
    await start()
    expect(status('bad')).toMatchObject([{ version: '1', state: 'UNAVAILABLE' }])
    expect(() => repository.resolve('bad')).toThrow(
      expect.objectContaining({ code: 'model_not_ready', message: expect.stringContaining(status('bad')[0]!.reason) as string }),
    )
    expect(await factorOf('good')).toBe(2)
  })

  it.each([
    ['a field that does not exist', 'sla:\n  latency: 5\n', '/sla/latency is not a field'],
    ['a value out of range', 'sla:\n  minFidelity: 2\n', '/sla/minFidelity'],
    ['a value of another kind', 'policy:\n  maxBatch: many\n', '"many"'],
    ['a word that is none of those allowed', 'sla:\n  onMiss: retry\n', 'degrade, reject, wait'],
    ['text that is no YAML', 'sla: [1, 2', 'not YAML'],
    ['labels that are not there', 'labels: labels.txt\n', '/labels names labels.txt'],
    ['labels outside of the folder', 'labels: ../secret.txt\n', '/labels names ../secret.txt'],
    ['samples outside of the folder', 'samples: /etc\n', '/samples names /etc'],
  ])('in model.yaml, %s, is named; the model serves again once it is mended', async (_, yaml, named) => {
    put(models, 'secret.txt', 'a\nb\nc\nd\n')
    put(models, 'scale/1/model.onnx', scaleModel(2))
    put(models, 'scale/model.yaml', yaml)
    await start()
    expect(status('scale')).toMatchObject([{ version: '1', state: 'UNAVAILABLE', reason: expect.stringContaining(named) as string }])
    put(models, 'scale/model.yaml', 'sla:\n  latencyMs: 5\n')
    await repository.load('scale')
    expect(repository.resolve('scale').manifest).toEqual({ sla: { latencyMs: 5 } })
  })

  it('among the settings of a model that serves leaves the old settings in force', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    put(models, 'scale/model.yaml', 'sla: { priority: 3 }\n')
    await start()
    put(models, 'scale/model.yaml', 'sla: { priority: 33 }\n')
    await expect(repository.load('scale')).rejects.toThrow('/sla/priority')
    expect(repository.resolve('scale').manifest).toEqual({ sla: { priority: 3 } })
    expect(status('scale')).toMatchObject([{ state: 'READY', reason: expect.stringContaining('/sla/priority') as string }])
  })

  it('counts labels that do not fit the output', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    put(models, 'scale/model.yaml', 'labels: labels.txt\n')
    put(models, 'scale/labels.txt', 'one\ntwo\nthree\n')
    await start()
    expect(status('scale')[0]?.reason).toContain('/labels give 3 labels, expected 4')
    put(models, 'scale/model.yaml', 'labels: labels.txt\nlabelsAppend: [four]\n')
    await repository.load('scale')
    expect(repository.resolve('scale').labels).toEqual(['one', 'two', 'three', 'four'])
  })
})

describe('npm sources', () => {
  beforeEach(() => {
    put(folder, 'node_modules/weights/assets/net.onnx', scaleModel(4))
    put(folder, 'node_modules/@scope/weights/net.onnx', scaleModel(6))
    put(folder, 'outside.onnx', scaleModel(8))
  })

  it('are served as version 1 from the installed package', async () => {
    put(models, 'a/model.yaml', 'source: npm:weights/assets/net.onnx\n')
    put(models, 'b/model.yaml', 'source: npm:@scope/weights/net.onnx\n')
    await start()
    expect([await factorOf('a', '1'), await factorOf('b')]).toEqual([4, 6])
  })

  it.each([
    ['npm:weights/../../outside.onnx', 'names ../../outside.onnx, which is no file inside the package weights'],
    ['npm:weights/assets/../../../outside.onnx', 'which is no file inside the package weights'],
    ['npm:weights//etc/hostname', 'which is no file inside the package weights'],
    ['npm:weights/missing.onnx', 'names missing.onnx, which is no file inside the package weights'],
    ['npm:weights/link.onnx', 'which is no file inside the package weights'],
    ['npm:absent/net.onnx', 'names the package absent, which is not installed'],
    ['npm:../outside.onnx', 'expected npm:<package>/<path>'],
    ['npm:weights', 'expected npm:<package>/<path>'],
    ['/etc/hostname', 'expected npm:<package>/<path>'],
  ])('refuse %s', async (source, reason) => {
    symlinkSync(join(folder, 'outside.onnx'), join(folder, 'node_modules', 'weights', 'link.onnx'))
    put(models, 'a/model.yaml', `source: ${source}\n`)
    await start()
    expect(status('a')).toEqual([{ name: 'a', version: '', state: 'UNAVAILABLE', reason: expect.stringContaining(reason) as string }])
    expect(() => repository.resolve('a')).toThrow(expect.objectContaining({ code: 'model_not_ready', message: expect.stringContaining(reason) as string }))
  })

  it('go on serving when model.yaml breaks or the package is being replaced', async () => {
    put(models, 'a/model.yaml', 'source: npm:weights/assets/net.onnx\n')
    await start()
    for (const broken of ['source: npm:absent/net.onnx\n', 'nonsense: 1\n', 'source: npm:weights/missing.onnx\n']) {
      put(models, 'a/model.yaml', broken)
      await expect(repository.load('a')).rejects.toMatchObject({ code: 'invalid_model' })
      expect(await factorOf('a')).toBe(4)
      expect(status('a')).toEqual([{ name: 'a', version: '1', state: 'READY', reason: expect.stringContaining('still served as it was before') as string }])
    }
    put(models, 'a/model.yaml', 'source: npm:@scope/weights/net.onnx\n')
    await repository.load('a')
    expect(await factorOf('a')).toBe(6)
    rmSync(join(models, 'a', 'model.yaml'))
    await expect(repository.load('a')).rejects.toMatchObject({ code: 'model_not_found' })
  })
})

describe('load and unload', () => {
  it('stop and resume serving; variants stay', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    catalog.saveVariant(variantOf('int8', { id: 'scale:1:int8', model: 'scale', digest: repository.resolve('scale').digest }))
    await repository.unload('scale')
    expect(status('scale')).toEqual([{ name: 'scale', version: '1', state: 'UNAVAILABLE', reason: 'unloaded' }])
    expect(() => repository.resolve('scale')).toThrow(
      expect.objectContaining({ code: 'model_not_ready', message: expect.stringContaining('unloaded') as string }),
    )
    expect(repository.versions('scale')).toEqual([])
    await repository.load('scale')
    expect(await factorOf('scale')).toBe(2)
    expect(catalog.variants('scale', '1').map(({ name }) => name)).toEqual(['fp32', 'int8'])
    expect(events).toEqual(['ready scale 1', 'gone scale 1', 'ready scale 1'])
  })

  it('give a quarantined source another chance, as a restart does', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    for (const again of [() => repository.load('scale'), restart]) {
      catalog.setState('scale:1:fp32', 'quarantined', 'it took down 2 lanes')
      await again()
      expect(catalog.variant('scale:1:fp32')).toMatchObject({ state: 'ready', reason: '' })
    }
  })

  it('refuse a model that is not there', async () => {
    await start()
    for (const name of ['nobody', '../etc']) await expect(repository.load(name)).rejects.toMatchObject({ code: 'model_not_found' })
    await expect(repository.unload('nobody')).rejects.toMatchObject({ code: 'model_not_found' })
    expect(repository.list()).toEqual([])
  })
})

describe('a version replaced by another file', () => {
  it('forgets the variants of the file before it', async () => {
    put(models, 'scale/1/model.onnx', scaleModel(2))
    await start()
    const artifact = await store.putFile(put(folder, 'int8.onnx', scaleModel(2.1)))
    catalog.saveVariant(variantOf('int8', { id: 'scale:1:int8', model: 'scale', ...artifact }))
    await restart()
    expect(catalog.variants('scale', '1').map(({ name }) => name)).toEqual(['fp32', 'int8'])
    // As editors and deployments do it: a new file takes the place of the old one.
    renameSync(put(folder, 'new.onnx', scaleModel(3)), join(models, 'scale', '1', 'model.onnx'))
    await repository.load('scale')
    expect(await factorOf('scale')).toBe(3)
    expect(catalog.variants('scale', '1')).toMatchObject([{ name: 'fp32', digest: repository.resolve('scale').digest }])
  })
})
