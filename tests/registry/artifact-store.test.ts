// The store of model files: addressed by content, confined, and never showing anything half-made.
import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DecisionReport } from '#flyweight/measurements.js'
import { ArtifactStore } from '#flyweight/registry/artifact-store.js'
import { packModel } from '#flyweight/onnx/packed.js'
import { openSession } from '#flyweight/runtime/session.js'
import { externalModel, put, sparseModel } from './models.js'
import { scaleModel } from '../scale-model.js'

let folder: string
let root: string
let store: ArtifactStore
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-store-'))
  root = join(folder, 'store')
  store = new ArtifactStore(root)
})
afterEach(() => rmSync(folder, { recursive: true }))

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const artifacts = () => readdirSync(root).filter((name) => name !== '.tmp')
const halfMade = () => readdirSync(join(root, '.tmp'))

describe('the artifact store', () => {
  it('addresses a model by the SHA-256 of its bytes, wherever it came from', async () => {
    const bytes = scaleModel(2)
    const first = await store.putFile(put(folder, 'a/net.onnx', bytes))
    const again = await store.putFile(put(folder, 'b/other.onnx', bytes))
    expect(again).toEqual(first)
    expect(first).toEqual({ digest: sha256(bytes), file: join(root, sha256(bytes), 'model.onnx'), bytes: bytes.length })
    expect(readFileSync(first.file)).toEqual(Buffer.from(bytes))
    expect(await store.find(first.digest)).toEqual(first)
    expect(artifacts()).toEqual([first.digest])
    expect((await store.putFile(put(folder, 'c.onnx', scaleModel(3)))).digest).not.toBe(first.digest)
  })

  it('keeps a copy: the original may change or go', async () => {
    const original = put(folder, 'a.onnx', scaleModel(2))
    const { digest } = await store.putFile(original)
    writeFileSync(original, 'changed')
    expect(await store.verify(digest)).toBe(true)
  })

  it('detects an artifact that is damaged, short, or has an extra file', async () => {
    const { digest, file } = await store.putFile(put(folder, 'a.onnx', scaleModel(2)))
    expect(await store.verify(digest)).toBe(true)
    const good = readFileSync(file)
    const flipped = Buffer.from(good)
    flipped[10]! ^= 1
    for (const bad of [flipped, good.subarray(0, -1), Buffer.alloc(0)]) {
      writeFileSync(file, bad)
      expect(await store.verify(digest)).toBe(false)
    }
    writeFileSync(file, good)
    expect(await store.verify(digest)).toBe(true)
    writeFileSync(join(dirname(file), 'weights.bin'), 'x')
    expect(await store.verify(digest)).toBe(false)
    expect(await store.verify('0'.repeat(64))).toBe(false)
  })

  it('heals a damaged artifact when the same model is stored again', async () => {
    const original = put(folder, 'a.onnx', scaleModel(2))
    const { digest, file } = await store.putFile(original)
    const damages = [() => appendFileSync(file, 'rot'), () => rmSync(file), () => put(dirname(file), 'extra.bin', 'x')]
    for (const damage of damages) {
      damage()
      expect(await store.verify(digest)).toBe(false)
      expect((await store.putFile(original)).digest).toBe(digest)
      expect(await store.verify(digest)).toBe(true)
    }
    expect(halfMade()).toEqual([])
  })

  it('takes external data along, from subfolders too, so that the copy runs by itself', async () => {
    put(folder, 'm/weights/w.bin', new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer))
    const onnx = put(folder, 'm/model.onnx', externalModel('weights/w.bin'))
    put(folder, 'm/unrelated.txt', 'not part of the model')
    const artifact = await store.putFile(onnx)
    rmSync(join(folder, 'm'), { recursive: true })
    expect(artifact.bytes).toBe(externalModel('weights/w.bin').length + 16)
    expect(readdirSync(dirname(artifact.file), { recursive: true, encoding: 'utf8' }).sort()).toEqual(['model.onnx', 'weights', join('weights', 'w.bin')])
    const session = await openSession(artifact.file)
    const { y } = await session.run({ x: { dtype: 'float32', dims: [1, 4], data: Float32Array.of(1, 1, 1, 1) } })
    await session.release()
    expect(y?.data).toEqual(Float32Array.of(2, 3, 4, 5))
  })

  it('gives models that differ only in their external data different digests, and checks that data too', async () => {
    const digests = await Promise.all(
      [1, 2].map(async (value) => {
        put(folder, `${value}/w.bin`, new Uint8Array(Float32Array.of(value, 0, 0, 0).buffer))
        return (await store.putFile(put(folder, `${value}/model.onnx`, externalModel('w.bin')))).digest
      }),
    )
    expect(digests[0]).not.toBe(digests[1])
    writeFileSync(join(root, digests[0]!, 'w.bin'), new Uint8Array(16))
    expect(await store.verify(digests[0]!)).toBe(false)
    expect(await store.verify(digests[1]!)).toBe(true)
  })

  it.each(['../secret', '../../escaped/secret', '/etc/hostname', 'a/../../secret'])(
    'refuses external data at %s and leaves nothing behind',
    async (location) => {
      put(folder, 'secret', new Uint8Array(16))
      const onnx = put(folder, 'm/model.onnx', externalModel(location))
      await expect(store.putFile(onnx)).rejects.toMatchObject({ code: 'invalid_model' })
      expect(artifacts()).toEqual([])
      expect(halfMade()).toEqual([])
      expect(readdirSync(folder).sort()).toEqual(['m', 'secret', 'store'])
    },
  )

  it('refuses external data behind a link that leads out, that is missing, or that takes the place of the model', async () => {
    put(folder, 'secret', new Uint8Array(16))
    const linked = put(folder, 'linked/model.onnx', externalModel('w.bin'))
    symlinkSync(join(folder, 'secret'), join(folder, 'linked', 'w.bin'))
    await expect(store.putFile(linked)).rejects.toMatchObject({ code: 'invalid_model', message: expect.stringContaining('"w.bin"') as string })
    const lacking = put(folder, 'lacking/model.onnx', externalModel('w.bin'))
    await expect(store.putFile(lacking)).rejects.toMatchObject({ code: 'invalid_model', message: expect.stringContaining('"w.bin"') as string })
    for (const name of ['model.onnx', './model.onnx', 'report.json', 'packed/w.bin']) {
      const hijacking = put(folder, 'hijacking/net.onnx', externalModel(name))
      put(folder, `hijacking/${name}`, new Uint8Array(16))
      await expect(store.putFile(hijacking)).rejects.toMatchObject({ code: 'invalid_model' })
    }
    expect(artifacts()).toEqual([])
    expect(halfMade()).toEqual([])
  })

  it('clears what a killed process left half-made, and nothing of one that lives', () => {
    const dead = '4194305-1-0'
    const alive = `${process.pid}-1-0`
    for (const name of [dead, alive]) put(root, `.tmp/${name}/model.onnx`, 'half')
    new ArtifactStore(root)
    expect(halfMade()).toEqual([alive])
    expect(artifacts()).toEqual([])
  })

  it('stores the same model once when many store it at the same time', async () => {
    const onnx = put(folder, 'a.onnx', scaleModel(2))
    const stored = await Promise.all(
      Array.from({ length: 24 }, async () => {
        const artifact = await store.putFile(onnx)
        // Once stored it stays there, whatever the others are about to do.
        for (let look = 0; look < 5; look++) expect(await store.verify(artifact.digest)).toBe(true)
        return artifact
      }),
    )
    expect(new Set(stored.map(({ digest }) => digest)).size).toBe(1)
    expect(halfMade()).toEqual([])
  })

  it('takes over a folder that a build filled', async () => {
    const work = await store.makeTemporaryDirectory()
    writeFileSync(join(work, 'model.onnx'), scaleModel(5))
    expect(artifacts()).toEqual([])
    const { digest } = await store.putDirectory(work)
    expect(existsSync(work)).toBe(false)
    expect(digest).toBe(sha256(scaleModel(5)))
  })

  it('keeps a sparse model packed, gives it plain to who needs it, and tells when it is damaged', async () => {
    const bytes = sparseModel(40_000)
    const build = async () => {
      const work = await store.makeTemporaryDirectory()
      writeFileSync(join(work, 'model.onnx'), bytes)
      const toStore = await packModel(join(work, 'model.onnx'))
      return { toStore, stored: await store.putDirectory(work) }
    }
    const { toStore, stored } = await build()
    expect(toStore).toBeLessThan(0.3 * bytes.length)
    expect(stored).toMatchObject({ digest: sha256(bytes), bytes: toStore })
    expect(await store.find(stored.digest)).toEqual(stored)
    expect([store.has(stored.digest), await store.verify(stored.digest), existsSync(stored.file)]).toEqual([true, true, false])
    let unpacked = ''
    const plain = await store.withPlainFile(stored.digest, async (file) => Promise.resolve(readFileSync((unpacked = file))))
    expect(plain.equals(bytes)).toBe(true)
    expect([existsSync(unpacked), ...halfMade()]).toEqual([false])
    // The same model that comes in plain is the same artifact; what is there stays.
    expect(await store.putFile(put(folder, 'a.onnx', bytes))).toEqual(stored)
    expect((await build()).stored).toEqual(stored)
    const path = (await store.files(stored.digest))[0]!.path
    const good = readFileSync(path)
    for (const bad of [good.subarray(0, -20), Buffer.alloc(3), gzipSync(scaleModel(3))]) {
      writeFileSync(path, bad)
      expect(await store.verify(stored.digest)).toBe(false)
      await expect(store.withPlainFile(stored.digest, () => Promise.resolve())).rejects.toThrow()
      expect(halfMade()).toEqual([])
    }
    expect((await build()).stored.digest).toBe(stored.digest)
    expect(await store.verify(stored.digest)).toBe(true)
  })

  it('keeps packed external data, too, so that the model runs', async () => {
    const work = await store.makeTemporaryDirectory()
    put(work, 'weights/w.bin', Buffer.concat([new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer)]))
    put(work, 'model.onnx', externalModel('weights/w.bin'))
    for (const name of ['model.onnx', 'weights/w.bin']) put(work, `packed/${name}.gz`, gzipSync(readFileSync(join(work, name))))
    const { digest } = await store.putDirectory(work)
    expect(await store.verify(digest)).toBe(true)
    const session = await store.withPlainFile(digest, (file) => openSession(file))
    const { y } = await session.run({ x: { dtype: 'float32', dims: [1, 4], data: Float32Array.of(1, 1, 1, 1) } })
    await session.release()
    expect(y?.data).toEqual(Float32Array.of(2, 3, 4, 5))
  })

  it('keeps the report of a build beside its artifact, as it was, without changing the digest', async () => {
    const { digest, bytes } = await store.putFile(put(folder, 'a.onnx', scaleModel(2)))
    expect(store.readReport(digest)).toBeUndefined()
    const report: DecisionReport = {
      recipe: [{ pass: 'int8-static', calibration: 'min-max' }],
      toolchain: 'test',
      sourceDigest: 'source',
      nodes: [{ node: 'y', opType: 'Mul', pass: 'int8-static', action: 'skipped', reason: 'no weights: "×" ≠ MatMul' }],
      passes: [{ pass: 'int8-static', seconds: 0.5, summary: '1 → 1' }],
      fidelity: { score: 0.98, definition: 'd', samples: 3, synthetic: false, outputs: { y: { cosine: 0.99, sqnrDb: 30, maxError: 0.1 } } },
      gate: { admitted: false, reason: 'slow', finite: true, latencies: [{ batch: 1, parentP50Ms: 1, variantP50Ms: 2, ratio: 2 }] },
      sourceBytes: 10,
      variantBytes: 5,
    }
    store.writeReport(digest, report)
    expect(store.readReport(digest)).toEqual(report)
    expect(await store.verify(digest)).toBe(true)
    expect(await store.find(digest)).toMatchObject({ bytes })
    expect(halfMade()).toEqual([])
  })

  it('removes an artifact whole; removing what is not there does nothing', async () => {
    const { digest } = await store.putFile(put(folder, 'a.onnx', scaleModel(2)))
    await store.remove(digest)
    await store.remove(digest)
    expect(store.has(digest)).toBe(false)
    expect(await store.find(digest)).toBeUndefined()
    expect([...artifacts(), ...halfMade()]).toEqual([])
  })

  it('sweeps old artifacts that nothing refers to', async () => {
    const [used, unused, young] = await Promise.all([2, 3, 4].map(async (factor) => store.putFile(put(folder, `${factor}.onnx`, scaleModel(factor)))))
    const longAgo = Date.now() / 1000 - 86_400
    for (const artifact of [used, unused]) utimesSync(dirname(artifact!.file), longAgo, longAgo)
    await store.sweep((digest) => digest === used!.digest)
    expect(artifacts().sort()).toEqual([used!.digest, young!.digest].sort())
  })
})
