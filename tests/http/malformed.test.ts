// A hundred seeded mutations of good requests, in JSON and binary, and a thousand that only must not
// hurt: each is answered with a problem that says where, and the gateway serves on.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '#flyweight/http/problem.js'
import { startGateway, type TestGateway } from './gateway.js'

interface Request {
  url: string
  headers: Record<string, string>
  payload: Buffer
}

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway({ server: { maxBodyBytes: 1_000_000 } })))
afterAll(() => gateway.stop())

const send = ({ url, headers, payload }: Request) => gateway.server.inject({ method: 'POST', url, headers, payload })
const values = Float32Array.of(1, 2, 3, 4)
const raw = Buffer.from(values.buffer)

const inferBody = () => ({
  model: 'scale',
  version: '1',
  inputs: { x: { shape: [1, 4], dtype: 'float32', data: [1, 2, 3, 4] } },
  sla: { latencyMs: 10_000, minFidelity: 0.5, priority: 1, onMiss: 'degrade' },
  outputs: ['y'],
  variant: 'fp32',
  encoding: 'json',
})
const v2Body = () => ({
  id: '1',
  parameters: { sla_ms: 10_000, min_fidelity: 0.5, priority: 1, on_miss: 'degrade', variant: 'fp32', binary_data_output: false },
  inputs: [{ name: 'x', shape: [1, 4], datatype: 'FP32', data: [1, 2, 3, 4] }],
  outputs: [{ name: 'y', parameters: { binary_data: false, classification: 2 } }],
})
const binaryBody = () => ({
  parameters: { binary_data_output: true },
  inputs: [{ name: 'x', shape: [1, 4], datatype: 'FP32', parameters: { binary_data_size: 16 } }],
  outputs: [{ name: 'y' }],
})

type Door = 'infer' | 'v2' | 'binary'
const bodies: Record<Door, () => object> = { infer: inferBody, v2: v2Body, binary: binaryBody }

function requestOf(door: Door, document: unknown, tail = raw): Request {
  const json = Buffer.from(JSON.stringify(document))
  if (door === 'infer') return { url: '/infer', headers: { 'content-type': 'application/json' }, payload: json }
  if (door === 'v2') return { url: '/v2/models/scale/infer', headers: {}, payload: json }
  return { url: '/v2/models/scale/infer', headers: { 'inference-header-content-length': String(json.byteLength) }, payload: Buffer.concat([json, tail]) }
}

/** Every place in a document, as the steps that lead there. */
function places(value: unknown, at: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [at]
  return [...(at.length > 0 ? [at] : []), ...Object.entries(value).flatMap(([key, inner]) => places(inner, [...at, Array.isArray(value) ? Number(key) : key]))]
}

function edit(document: object, at: readonly (string | number)[], change: (parent: Record<string | number, unknown>, key: string | number) => void): object {
  let parent = document as Record<string | number, unknown>
  for (const step of at.slice(0, -1)) parent = parent[step] as Record<string | number, unknown>
  change(parent, at.at(-1) ?? '')
  return document
}

const doors = fc.constantFrom<Door>('infer', 'v2', 'binary')
/** Nothing in a good request may be one of these. */
const nonsense = fc.constantFrom<unknown>({ nested: [{}] }, [[[[[]]]]], 'nonsense ✗', -7.5, null, [null, true])

/** A value, or a whole part, in whose place stands nonsense. */
const replaced: fc.Arbitrary<Request> = doors.chain((door) =>
  fc.tuple(fc.constantFrom(...places(bodies[door]()).filter((at) => !free(at))), nonsense).map(([at, value]) =>
    requestOf(
      door,
      edit(bodies[door](), at, (parent, key) => (parent[key] = value)),
    ),
  ),
)

/** A field that no body has. */
const added: fc.Arbitrary<Request> = doors.chain((door) =>
  fc.constantFrom<(string | number)[]>([], ...places(bodies[door]()).filter((at) => isObject(bodies[door](), at))).map((at) =>
    requestOf(
      door,
      edit(bodies[door](), [...at, 'zzz'], (parent, key) => (parent[key] = 1)),
    ),
  ),
)

const lengths = fc.constantFrom('-1', '1e3', 'NaN', '999999', '1', '')
/** Bytes that are missing, too many, miscounted or no text. */
const broken: fc.Arbitrary<Request> = fc.oneof(
  fc.tuple(fc.constantFrom<Door>('infer', 'binary'), fc.integer({ min: 1, max: 30 })).map(([door, cut]) => {
    const request = requestOf(door, bodies[door]())
    return { ...request, payload: request.payload.subarray(0, -cut) }
  }),
  fc.uint8Array({ minLength: 1, maxLength: 20 }).map((extra) => requestOf('binary', binaryBody(), Buffer.concat([raw, extra]))),
  lengths.map((length) => ({ ...requestOf('binary', binaryBody()), headers: { 'inference-header-content-length': length } })),
  fc.uint8Array({ minLength: 1, maxLength: 60 }).map((payload) => ({ ...requestOf('infer', {}), payload: Buffer.from([0xff, ...payload]) })),
)

const wrong = fc.oneof({ weight: 3, arbitrary: replaced }, { weight: 1, arbitrary: added }, { weight: 2, arbitrary: broken })

/** Where any text, or any number, is as good as another. */
function free(at: readonly (string | number)[]): boolean {
  return at.includes('data') || at.join('/') === 'id'
}

function isObject(document: object, at: readonly (string | number)[]): boolean {
  const value = at.reduce<unknown>((inner, step) => (inner as Record<string | number, unknown>)[step], document)
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

describe('malformed requests', () => {
  it('are each answered with a problem that says where, and leave the gateway serving', async () => {
    const refused: string[] = []
    for (const request of fc.sample(wrong, { numRuns: 100, seed: 20_260_115 })) {
      const response = await send(request)
      const told = `${request.payload.toString()} → ${response.body}`
      expect(response.statusCode, told).toBeGreaterThanOrEqual(400)
      expect(response.statusCode, told).toBeLessThan(500)
      const problem = response.json<Problem>()
      expect(response.headers['content-type'], told).toMatch(/^application\/problem\+json/)
      expect(problem.detail.length, told).toBeGreaterThan(5)
      expect(problem.error, told).toBe(problem.detail)
      expect(problem.status, told).toBe(response.statusCode)
      // What is not JSON has no fields; everything else names one.
      if (!/is not valid|multiple|is empty/.test(problem.detail) && problem.status !== 404) expect(problem.errors?.length ?? 0, told).toBeGreaterThan(0)
      refused.push(problem.code)
    }
    expect(refused).toHaveLength(100)
    expect(new Set(refused)).toEqual(new Set(['malformed', 'unknown_field', 'invalid_input']))
    for (const door of ['infer', 'v2', 'binary'] as const) expect((await send(requestOf(door, bodies[door]()))).statusCode).toBe(200)
  })

  it('of random bytes flipped anywhere never give a 5xx', async () => {
    const flipped = doors.chain((door) => {
      const request = requestOf(door, bodies[door]())
      return fc.array(fc.tuple(fc.nat(request.payload.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }).map((edits) => {
        const payload = Buffer.from(request.payload)
        for (const [at, byte] of edits) payload[at] = byte
        return { ...request, payload }
      })
    })
    for (const request of fc.sample(flipped, { numRuns: 1000, seed: 7 })) {
      const response = await send(request)
      expect(response.statusCode, `${request.payload.toString('latin1')} → ${response.body}`).toBeLessThan(500)
    }
    expect((await send(requestOf('infer', inferBody()))).statusCode).toBe(200)
  })
})
