// Captured traffic from requests to a calibrated variant: rows are sampled to disk where model.yaml asks for it,
// survive a restart, calibrate and judge, and go when they are told to.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import type { CompressResult } from '#flyweight/jobs/compress-job.js'
import type { ModelVersion } from '#flyweight/registry/model.js'
import { loadSamples, type Samples } from '#flyweight/registry/samples.js'
import { TrafficCapture, type CaptureStatus } from '#flyweight/registry/traffic-capture.js'
import { copyRows } from '#flyweight/tensor/rows.js'
import { filled, startApp, type TestApp } from './app.js'
import { scaleModel } from '../scale-model.js'

let app: TestApp
let digits: Samples
beforeAll(async () => {
  app = await startApp({
    'digits/model.yaml': 'capture: { maxRows: 40 }\npolicy: { onDemand: [] }\n',
    'scale/1/model.onnx': scaleModel(2),
  })
  const { signature } = app.repository.resolve('digits')
  digits = (await loadSamples(fileURLToPath(new URL('../../models/digits/samples', import.meta.url)), signature))!
})
afterAll(() => app.stop())

const status = async (model = 'digits') => (await app.server.inject(`/admin/models/${model}/capture`)).json<CaptureStatus>()
const folderOf = (model: string) => join(app.folder, 'data', 'capture', model)

it('is off unless asked for', async () => {
  await app.infer('scale', { inputs: filled(1) })
  expect(await status('scale')).toMatchObject({ enabled: false, rows: 0, seen: 0 })
  expect(existsSync(folderOf('scale'))).toBe(false)
})

it('keeps rows of answered requests, one by one, and calibrates and judges on them', async () => {
  for (let from = 0; from < 60; from += 6) await app.infer('digits', { inputs: digits.take(from, 6) })
  await vi.waitFor(async () => expect(await status()).toMatchObject({ enabled: true, rows: 40, seen: 60, maxRows: 40 }))
  const [folder] = readdirSync(folderOf('digits')) as [string]
  const { signature } = app.repository.resolve('digits')
  const captured = (await loadSamples(join(folderOf('digits'), folder), signature))!
  expect(captured.rows).toBe(40)
  const sent = digits.take(0, 60)
  const rowsOf = (tensors: Record<string, { data: unknown }>) => Buffer.from((Object.values(tensors)[0]!.data as Float32Array).buffer).toString('base64')
  const known = new Set(Array.from({ length: 60 }, (_, row) => rowsOf({ x: copyRows(Object.values(sent)[0]!, row, row + 1) })))
  for (let row = 0; row < 40; row++) expect(known.has(rowsOf(captured.take(row, 1)))).toBe(true)

  const answer = await app.server.inject({ method: 'POST', url: '/admin/compress', payload: { model: 'digits', recipe: 'int8-static' } })
  await app.settled()
  const job = app.jobs.get(answer.json<{ id: string }>().id)
  expect(job.error).toBeUndefined()
  const { report } = job.result as CompressResult
  expect(report.fidelity).toMatchObject({ synthetic: false, heldOut: true, calibrationSamples: 20, samples: 20 })
  expect(report.nodes.some(({ action }) => action === 'done')).toBe(true)
  const metrics = await app.server.inject('/metrics')
  expect(Number(/flyweight_captured_rows_total\{model="digits"\} (\d+)/.exec(metrics.body)?.[1])).toBeGreaterThanOrEqual(40)
}, 60_000)

it('deletes them when told to, and goes on', async () => {
  expect((await app.server.inject({ method: 'DELETE', url: '/admin/models/digits/capture' })).statusCode).toBe(204)
  expect(await status()).toMatchObject({ rows: 0, bytes: 0, seen: 0 })
  await app.infer('digits', { inputs: digits.take(0, 1) })
  await vi.waitFor(async () => expect(await status()).toMatchObject({ rows: 1, seen: 1 }))
  expect((await app.server.inject('/admin/models/nobody/capture')).statusCode).toBe(404)
})

it('survives restarts, drops rows of another file, and never throws at a request', async () => {
  const model: ModelVersion = { ...app.repository.resolve('scale'), manifest: { capture: true } }
  const told: string[] = []
  const open = (of = model, root = join(app.folder, 'other')) => {
    const capture = new TrafficCapture({
      root,
      observer: { rowsCaptured: () => told.push('captured'), rowsNotCaptured: (_, __, reason) => told.push(reason) },
      warn: () => undefined,
    })
    capture.follow(of)
    return capture
  }
  const first = open()
  first.offer(model, filled(1, 5))
  await first.flush()
  const second = open()
  expect(second.status(model)).toMatchObject({ rows: 5, seen: 5 })
  expect(told).toEqual(new Array(5).fill('captured'))
  // Inputs that no request could have: still nothing is thrown.
  second.offer(model, {})
  const changed = { ...model, digest: 'f'.repeat(64) }
  second.follow(changed)
  expect(second.status(changed)).toMatchObject({ rows: 0, seen: 0 })
  expect(readdirSync(join(app.folder, 'other', 'scale'))).toHaveLength(1)
  // A disk that cannot be written to.
  const broken = open(model, join(app.folder, 'models', 'scale', '1', 'model.onnx'))
  broken.offer(model, filled(1))
  expect(broken.status(model).enabled).toBe(false)
  // More at once than may wait.
  told.length = 0
  const wide = { ...model, manifest: { capture: { maxBytes: 2 ** 30, maxRows: 20_000 } } }
  const busy = open(wide, join(app.folder, 'busy'))
  const row = { x: { dtype: 'float32' as const, dims: [6, 1 << 20], data: new Float32Array(6 << 20) } }
  busy.offer(wide, row)
  await busy.flush()
  expect(told.filter((what) => what === 'busy')).toHaveLength(2)
  expect(told.filter((what) => what === 'captured')).toHaveLength(4)
  await busy.forget('scale')
  expect(existsSync(join(app.folder, 'busy', 'scale'))).toBe(false)
})
