// Sharded variants when a device dies: only variants with a stage there leave memory, nobody is left without an answer,
// and whole variants do not notice.
import { Worker } from 'node:worker_threads'
import { afterEach, expect, it, vi } from 'vitest'
import { scaleModel } from '../scale-model.js'
import { filled, startApp, valuesOf, type TestApp } from './app.js'

let app: TestApp
afterEach(async () => {
  vi.restoreAllMocks()
  await app.stop()
})

const pixels = (rows: number) => ({
  x: { dtype: 'float32' as const, dims: [rows, 1, 28, 28], data: Float32Array.from({ length: rows * 784 }, (_, i) => (i % 13) / 13) },
})

it('a stage’s device that dies costs a sharded variant a load, and nobody an answer', { timeout: 120_000 }, async () => {
  app = await startApp({ 'scale/1/model.onnx': scaleModel(2), 'scale/model.yaml': 'policy: { onDemand: [] }\n' }, { sharding: { devices: ['cpu:0', 'cpu:1'] } })
  const { statusCode, body } = await app.server.inject({ method: 'POST', url: '/admin/shard', payload: { model: 'digits', stages: 2, microBatch: 2 } })
  expect(statusCode, body).toBe(202)
  await app.settled()
  const whole = valuesOf(await app.infer('digits', { inputs: pixels(6), variant: 'fp32' }))
  const sharded = async () => valuesOf(await app.infer('digits', { inputs: pixels(6), variant: 'sharded-2' }))
  const same = (given: readonly number[]) => {
    expect(given).toHaveLength(whole.length)
    for (const [index, value] of given.entries()) expect(value).toBeCloseTo(whole[index]!, 4)
  }
  same(await sharded())
  await app.infer('scale', { inputs: filled(1) })

  const post = Worker.prototype.postMessage
  let killed = 0
  vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (this: Worker, ...message) {
    const { op, key = '' } = message[0] as { op?: string; key?: string }
    if (op !== 'run' || !key.startsWith('digits:1:sharded-2/1') || killed > 0) return post.apply(this, message)
    killed += 1
    void this.terminate()
  })
  const results = await Promise.all([sharded(), sharded(), app.infer('scale', { inputs: filled(3) })])
  expect(killed).toBe(1)
  same(results[0])
  same(results[1])
  expect(valuesOf(results[2])).toEqual([6, 6, 6, 6])
  expect(app.gateway.cache().evictions).toEqual({ 'lane-lost': 1 })
  expect(app.catalog.variant('digits:1:sharded-2')?.state).toBe('ready')
  expect(await app.gateway.evict('digits:1:sharded-2')).toBe(1)
  same(await sharded())
})
