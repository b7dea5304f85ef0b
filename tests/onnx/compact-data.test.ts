import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { compactModel, type CompactModel } from '#flyweight/onnx/compact-data.js'
import { loadModel, saveModel } from '#flyweight/onnx/load.js'
import { ArtifactStore } from '#flyweight/registry/artifact-store.js'
import { decodeModel, encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { scaleModel } from '../scale-model.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-compact-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const weights = (name: string, size: number, value: number) => tensorProto(name, 'float32', [size], new Float32Array(size).fill(value))

/** Writes the files as they would arrive. */
async function received({ files }: CompactModel, most: number): Promise<{ model: string; sizes: Record<string, number> }> {
  const target = mkdtempSync(join(folder, 'received-'))
  const sizes: Record<string, number> = {}
  for (const { name, pieces } of files) {
    const chunks: Uint8Array[] = []
    for await (const piece of pieces(most)) chunks.push(piece)
    const bytes = Buffer.concat(chunks)
    writeFileSync(join(target, name), bytes)
    sizes[name] = bytes.byteLength
  }
  return { model: join(target, 'model.onnx'), sizes }
}

describe('compactModel', () => {
  it('takes of shared data only what the model refers to, each part once', async () => {
    const whole = model({
      inputs: [valueInfo('x', 'float32', ['n', 300])],
      outputs: [valueInfo('y', 'float32', ['n', 300]), valueInfo('z', 'float32', ['n', 300])],
      nodes: [node('Add', ['x', 'a'], ['h']), node('Mul', ['h', 'b'], ['y']), node('Sub', ['h', 'c'], ['z'])],
      initializers: [weights('a', 300, 1), weights('b', 300, 2), weights('c', 300, 3)],
    })
    await saveModel(whole, join(folder, 'whole.onnx'), { externalThresholdBytes: 0 })
    const stage = decodeModel(readFileSync(join(folder, 'whole.onnx')))
    const { graph } = stage
    graph.node = [graph.node[0]!, node('Mul', ['h', 'c'], ['y'])]
    graph.output = [graph.output[0]!]
    graph.initializer = graph.initializer.filter(({ name }) => name !== 'b')
    writeFileSync(join(folder, 'stage.onnx'), encodeModel(stage))
    const compact = await compactModel(join(folder, 'stage.onnx'))
    const { model: file, sizes } = await received(compact, 500)
    expect(sizes['weights.bin']).toBe(4096 + 300 * 4)
    expect(compact.bytes).toBe(sizes['weights.bin']! + sizes['model.onnx']!)
    const session = await openSession(file)
    const { y } = await session.run({ x: { dtype: 'float32', dims: [1, 300], data: new Float32Array(300).fill(5) } })
    await session.release()
    expect([...(y!.data as Float32Array)]).toEqual(Array(300).fill((5 + 1) * 3))
    expect((await new ArtifactStore(join(folder, 'store')).putFile(file)).digest).toBe(compact.digest)
  })

  it('leaves a model without external data as it is', async () => {
    writeFileSync(join(folder, 'scale.onnx'), scaleModel(3))
    const compact = await compactModel(join(folder, 'scale.onnx'))
    const { model: file } = await received(compact, 7)
    expect(readFileSync(file).equals(scaleModel(3))).toBe(true)
    expect((await new ArtifactStore(join(folder, 'store')).putFile(file)).digest).toBe(compact.digest)
    await expect(loadModel(file)).resolves.toBeDefined()
  })
})
