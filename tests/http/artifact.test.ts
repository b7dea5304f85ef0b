// A pruned variant from the request to the download: kept packed, sent as it is to who takes gzip, plain to who
// does not, and served like any other.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { decodeModel } from '#flyweight/onnx/proto.js'
import { startGateway, type TestGateway } from './gateway.js'

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway()))
afterAll(() => gateway.stop())

const recipe = 'prune-weights(ratio=0.7,scope=global)'
const id = `digits:1:${recipe}`
const get = (headers: Record<string, string> = {}) =>
  gateway.server.inject({ method: 'GET', url: `/admin/variants/${encodeURIComponent(id)}/artifact`, headers })

it('goes from a recipe to packed bytes, over the wire, and into service', { timeout: 120_000 }, async () => {
  const accepted = await gateway.server.inject({ method: 'POST', url: '/admin/compress', payload: { model: 'digits', recipe } })
  expect(accepted.statusCode, accepted.body).toBe(202)
  const { body } = await gateway.server.inject({ method: 'GET', url: `/admin/jobs/${accepted.json<{ id: string }>().id}/events` })
  expect(body).toMatch(/event: done\ndata: .*"state":"succeeded"/)
  const [source, variant] = ['digits:1:fp32', id].map((one) => gateway.catalog.variant(one)!)
  expect(variant).toMatchObject({ state: 'ready', sizeOnly: true })
  expect(variant!.bytes).toBeLessThan(0.45 * source!.bytes)
  expect(readdirSync(join(gateway.folder, 'data', variant!.digest)).sort()).toEqual(['packed', 'report.json'])

  const packed = await get({ 'accept-encoding': 'gzip, deflate, br' })
  expect(packed.headers).toMatchObject({ 'content-encoding': 'gzip', 'content-type': 'application/octet-stream', vary: 'accept-encoding' })
  expect(packed.headers['content-length']).toBe(String(variant!.bytes))
  const plain = gunzipSync(packed.rawPayload)
  expect(decodeModel(plain).graph.node.length).toBeGreaterThan(3)
  for (const headers of [{}, { 'accept-encoding': 'br' }, { 'accept-encoding': 'br, gzip;q=0' }]) {
    const unpacked = await get(headers)
    expect(unpacked.headers['content-encoding']).toBeUndefined()
    expect(unpacked.headers.etag).toBe(`"${variant!.digest}"`)
    expect(unpacked.rawPayload.equals(plain)).toBe(true)
  }
  for (const etag of [packed.headers.etag as string, `"${variant!.digest}"`]) expect((await get({ 'if-none-match': etag })).statusCode).toBe(304)

  const x = Array.from({ length: 784 }, (_, i) => (i % 28 > 12 && i % 28 < 16 ? 1 : 0))
  const answer = await gateway.server.inject({
    method: 'POST',
    url: '/infer',
    payload: { model: 'digits', variant: recipe, inputs: { x: { shape: [1, 1, 28, 28], data: x } } },
  })
  expect(answer.statusCode, answer.body).toBe(200)
  expect(answer.body).toContain(recipe)
  expect(existsSync(variant!.file)).toBe(false)
  expect(readdirSync(join(gateway.folder, 'data', '.tmp'))).toEqual([])
})
