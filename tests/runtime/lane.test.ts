// Lanes against direct sessions: same numbers, moved buffers, and no promise left hanging when a thread ends.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { Lane } from '#flyweight/runtime/lane.js'
import { syntheticFeeds } from '#flyweight/runtime/sample-inputs.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

const addOne = model({
  inputs: [valueInfo('x', 'float32', ['n', 2])],
  outputs: [valueInfo('y', 'float32', ['n', 2])],
  nodes: [node('Add', ['x', 'one'], ['y'])],
  initializers: [tensorProto('one', 'float32', [1], [1])],
})
const directory = mkdtempSync(join(tmpdir(), 'flyweight-lane-'))
afterAll(() => rmSync(directory, { recursive: true }))

const digits = fileURLToPath(new URL('../fixtures/digits_cnn.onnx', import.meta.url))

let lane: Lane
beforeEach(() => {
  lane = new Lane({ id: 0, device: 'cpu', threads: 1 })
})
afterEach(() => lane.close())

async function digitFeeds(batch: number): Promise<Record<string, Tensor>> {
  const session = await openSession(digits)
  const feeds = syntheticFeeds(session.inputs, { batch, seed: 7 })
  await session.release()
  return feeds
}

describe('a lane', () => {
  test('refuses feeds that it was given before', async () => {
    const file = join(directory, 'again.onnx')
    writeFileSync(file, encodeModel(addOne))
    await lane.load('m', file)
    const feeds: Record<string, Tensor> = { x: { dtype: 'float32', dims: [1, 2], data: Float32Array.of(1, 2) } }
    await lane.run('m', feeds)
    await expect(lane.run('m', feeds)).rejects.toMatchObject({ code: 'inference_failed', message: 'the memory of "x" was given away before' })
  })

  test('gives the same numbers as a session on this thread, and takes the feeds away', async () => {
    const feeds = await digitFeeds(3)
    const session = await openSession(digits)
    const expected = await session.run(feeds)
    await session.release()

    const loaded = await lane.load('a', digits)
    expect(loaded.loadMs).toBeGreaterThan(0)
    const { outputs, runMs } = await lane.run('a', feeds)

    expect(outputs).toEqual(expected)
    expect(runMs).toBeGreaterThan(0)
    for (const tensor of Object.values(feeds)) expect(tensor.data).toHaveLength(0)
  })

  test('copies small views on the shared Buffer pool instead of detaching the pool', async () => {
    const file = join(directory, 'add_one.onnx')
    writeFileSync(file, encodeModel(addOne))
    await lane.load('a', file)
    const pool = Buffer.from('a pooled neighbour')
    expect(pool.buffer.byteLength).toBe(Buffer.poolSize)
    const view = new Float32Array(pool.buffer, Math.ceil(pool.byteOffset / 4) * 4, 2)
    const before = [...view]
    const { outputs } = await lane.run('a', { x: { dtype: 'float32', dims: [1, 2], data: view } })
    expect(outputs['y']?.data).toEqual(Float32Array.from(before, (value) => value + 1))
    expect(pool.toString()).toBe('a pooled neighbour')
  })

  test('returns only the outputs asked for', async () => {
    await lane.load('a', digits)
    const session = await openSession(digits)
    const name = session.outputs[0]?.name as string
    await session.release()
    const { outputs } = await lane.run('a', await digitFeeds(1), [name])
    expect(Object.keys(outputs)).toEqual([name])
  })

  test('answers concurrent calls each with its own result, in order', async () => {
    await lane.load('a', digits)
    const batches = [1, 4, 2, 7]
    const feeds = await Promise.all(batches.map(digitFeeds))
    const results = await Promise.all(feeds.map((each) => lane.run('a', each)))
    expect(results.map(({ outputs }) => Object.values(outputs)[0]?.dims[0])).toEqual(batches)
  })

  test('an unload waits for the run before it', async () => {
    await lane.load('a', digits)
    const run = lane.run('a', await digitFeeds(8))
    const unload = lane.unload('a')
    await expect(run).resolves.toBeDefined()
    await unload
    await expect(lane.run('a', await digitFeeds(1))).rejects.toMatchObject({ code: 'inference_failed', message: '"a" is not loaded on this lane' })
  })

  test('says what is wrong with a model that cannot be loaded and with inputs that do not fit', async () => {
    await expect(lane.load('b', '/nonexistent.onnx')).rejects.toMatchObject({ code: 'invalid_model' })
    await lane.load('a', digits)
    const feeds = await digitFeeds(1)
    for (const tensor of Object.values(feeds)) tensor.dims = [1, ...tensor.dims]
    await expect(lane.run('a', feeds)).rejects.toMatchObject({ code: 'invalid_input' })
  })

  test('closing rejects what is pending, and everything after', async () => {
    await lane.load('a', digits)
    const exits: unknown[] = []
    lane.onExit((exit) => exits.push(exit))
    const run = lane.run('a', await digitFeeds(64))
    const closed = lane.close()
    await expect(run).rejects.toMatchObject({ code: 'inference_failed', message: 'lane 0 is gone: it was closed' })
    await closed
    await expect(lane.load('a', digits)).rejects.toMatchObject({ code: 'inference_failed' })
    expect(exits).toEqual([{ expected: true, reason: 'it was closed' }])
  })

  test('closing in the middle of a run leaves the process alive, and skips the runs behind it', async () => {
    await lane.load('a', digits)
    const feeds = await Promise.all([256, 256, 256].map(digitFeeds))
    const pending = feeds.map((each) => lane.run('a', each))
    const settled = Promise.allSettled(pending)
    await new Promise((resolve) => setTimeout(resolve, 5))
    await lane.close()
    expect((await settled).at(-1)).toMatchObject({ status: 'rejected', reason: { code: 'inference_failed' } })
  })

  test('a thread that dies rejects what is pending and tells its listeners', async () => {
    await lane.load('a', digits)
    const post = vi.spyOn(Worker.prototype, 'postMessage')
    const pending = lane.unload('other')
    const worker = post.mock.contexts[0] as Worker
    post.mockRestore()
    await pending
    const exited = new Promise((resolve) => lane.onExit(resolve))
    // A message that is none breaks the thread's loop before the run behind it starts.
    worker.postMessage(null)
    await expect(lane.run('a', await digitFeeds(1))).rejects.toMatchObject({ code: 'inference_failed', message: expect.stringMatching(/^lane 0 is gone: /) })
    await expect(exited).resolves.toMatchObject({ expected: false })
  })
})
