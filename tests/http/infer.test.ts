import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '#flyweight/http/problem.js'
import { carried, startGateway, type TestGateway } from './gateway.js'

interface Answer {
  id: string
  variant: string
  outputs: Record<string, { shape: number[]; dtype: string; data: unknown; binary_data_size?: number }>
  fidelity: number
  timing: Record<string, number>
  route: { reason: string; deadlineMet: boolean; considered?: { variant: string }[] }
}

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway({ server: { maxBodyBytes: 100_000 } })))
afterAll(() => gateway.stop())

const post = (payload: string | object | Buffer, options: { headers?: Record<string, string>; query?: string } = {}) =>
  gateway.server.inject({
    method: 'POST',
    url: `/infer${options.query ?? ''}`,
    headers: { 'content-type': 'application/json', ...options.headers },
    payload: typeof payload === 'string' || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload),
  })

const scale = (extra: object = {}) => ({ model: 'scale', inputs: { x: [[1, 2, 3, 4]] }, ...extra })

/** One row of every dtype as JSON text, with values that a careless reader would spoil. */
const rows: Record<string, string> = {
  float32: '[0.10000000149011612,"NaN"]',
  float64: '[0.1,"-Infinity"]',
  float16: '[0.5,65504]',
  uint8: '[0,255]',
  int8: '[-128,127]',
  uint16: '[0,65535]',
  int16: '[-32768,32767]',
  uint32: '[0,4294967295]',
  int32: '[-2147483648,2147483647]',
  uint64: '[9007199254740993,18446744073709551615]',
  int64: '[-9223372036854775808,9007199254740993]',
  bool: '[true,false]',
  string: '["é","9007199254740993"]',
}
const allRows = carried.map((dtype) => `"${dtype}":[${rows[dtype]}]`).join(',')

describe('POST /infer', () => {
  it('answers with outputs, variant, timing and the reason of the route', async () => {
    const response = await post(scale())
    expect(response.statusCode).toBe(200)
    const answer = response.json<Answer>()
    expect(answer).toMatchObject({ model: 'scale', version: '1', variant: 'fp32', fidelity: 1, route: { deadlineMet: true } })
    expect(answer.outputs).toEqual({ y: { shape: [1, 4], dtype: 'float32', data: [2, 4, 6, 8] } })
    expect(Object.keys(answer.timing)).toEqual(['queueMs', 'inferMs', 'totalMs', 'batchSize'])
    expect(response.headers['x-flyweight-variant']).toBe('fp32')
    expect(response.headers['x-request-id']).toBe(answer.id)
    expect(response.headers['server-timing']).toMatch(/^decode;dur=[\d.]+, queue;dur=[\d.]+, infer;dur=[\d.]+, encode;dur=[\d.]+$/)
  })

  it('keeps the request id of the client where it is a plain token', async () => {
    expect((await post(scale(), { headers: { 'x-request-id': 'abc-1' } })).json<Answer>().id).toBe('abc-1')
    expect((await post(scale(), { headers: { 'x-request-id': 'a b"c' } })).json<Answer>().id).not.toBe('a b"c')
  })

  it('carries every dtype through the model without loss', async () => {
    const response = await post(`{"model":"types","inputs":{${allRows}}}`)
    expect(response.statusCode, response.body).toBe(200)
    for (const dtype of carried) expect(response.body).toContain(`"${dtype}_out":{"shape":[1,2],"dtype":"${dtype}","data":${rows[dtype]}}`)
  })

  it('answers in base64, and reads its own answer back', async () => {
    const first = await post(`{"model":"types","encoding":"base64","inputs":{${allRows}}}`)
    const outputs = first.json<Answer>().outputs
    const inputs = Object.fromEntries(carried.map((dtype) => [dtype, outputs[`${dtype}_out`]]))
    const second = await post({ model: 'types', encoding: 'base64', inputs })
    expect(second.json<Answer>().outputs).toEqual(outputs)
    expect(Buffer.from(outputs['int64_out']?.data as string, 'base64').readBigInt64LE(8)).toBe(9007199254740993n)
  })

  it('answers in binary when octets are accepted', async () => {
    const response = await post(`{"model":"types","inputs":{${allRows}}}`, { headers: { accept: 'application/octet-stream' } })
    const length = Number(response.headers['inference-header-content-length'])
    const answer = JSON.parse(response.rawPayload.subarray(0, length).toString()) as Answer
    let offset = length
    const raw = new Map<string, Buffer>()
    for (const [name, { binary_data_size: size = 0, data }] of Object.entries(answer.outputs)) {
      expect(data).toBeUndefined()
      raw.set(name, response.rawPayload.subarray(offset, (offset += size)))
    }
    expect(offset).toBe(response.rawPayload.byteLength)
    expect(raw.get('uint64_out')?.readBigUInt64LE(8)).toBe(2n ** 64n - 1n)
    expect(raw.get('string_out')?.readUInt32LE(0)).toBe(2)
    expect(raw.get('float32_out')?.readFloatLE(0)).toBe(0.10000000149011612)
  })

  it('gives only the outputs asked for, in that order', async () => {
    const response = await post(`{"model":"types","outputs":["string_out","int8_out"],"inputs":{${allRows}}}`)
    expect(Object.keys(response.json<Answer>().outputs)).toEqual(['string_out', 'int8_out'])
  })

  it('shows every variant with ?explain=1', async () => {
    const answer = (await post(scale(), { query: '?explain=1' })).json<Answer>()
    expect(answer.route.considered?.map(({ variant }) => variant)).toEqual(['fp32'])
  })

  it('reads compressed bodies, within the limit of what they unpack to', async () => {
    const packed = await post(gzipSync(JSON.stringify(scale())), { headers: { 'content-encoding': 'gzip' } })
    expect(packed.json<Answer>().outputs['y']?.data).toEqual([2, 4, 6, 8])
    const bomb = await post(gzipSync(Buffer.alloc(10_000_000, 0x20)), { headers: { 'content-encoding': 'gzip' } })
    expect(bomb.statusCode).toBe(413)
    expect((await post('{}', { headers: { 'content-encoding': 'br' } })).statusCode).toBe(415)
    expect((await post('{}', { headers: { 'content-encoding': 'gzip' } })).statusCode).toBe(400)
  })

  it.each<[string, string | object, number, string, string, RegExp]>([
    ['not JSON', '{"model":', 400, 'malformed', '', /not valid JSON/],
    ['empty', '', 400, 'malformed', '', /empty/],
    ['an array', '[]', 400, 'malformed', '', /array of 0, expected object/],
    ['one without inputs', { model: 'scale' }, 400, 'malformed', '/inputs', /is missing/],
    ['one with a field that does not exist', scale({ input: {} }), 400, 'unknown_field', '/input', /expected model, version/],
    ['one with a prototype', '{"model":"scale","__proto__":{},"inputs":{"x":[[1,2,3,4]]}}', 400, 'unknown_field', '/__proto__', /not a field/],
    [
      'with a prototype among the inputs',
      '{"model":"scale","inputs":{"__proto__":[[1,2,3,4]],"x":[[1,2,3,4]]}}',
      422,
      'invalid_input',
      '/inputs/__proto__',
      /expected "x"/,
    ],
    ['one with an unknown field in the SLA', scale({ sla: { latency: 3 } }), 400, 'unknown_field', '/sla/latency', /expected latencyMs/],
    ['one with a deadline below 0', scale({ sla: { latencyMs: -5 } }), 400, 'malformed', '/sla/latencyMs', /is -5/],
    ['one with a fidelity above 1', scale({ sla: { minFidelity: 2 } }), 400, 'malformed', '/sla/minFidelity', /is 2/],
    ['one with an odd onMiss', scale({ sla: { onMiss: 'cry' } }), 400, 'malformed', '/sla/onMiss', /"cry", expected one of "degrade", "reject", "wait"/],
    ['one with an unknown model', scale({ model: 'scales' }), 404, 'model_not_found', '', /scales/],
    ['one with an unknown version', scale({ version: '9' }), 404, 'model_not_found', '', /9/],
    ['one with an unknown variant', scale({ variant: 'int4' }), 404, 'variant_not_found', '/variant', /int4/],
    ['one with an unknown input', scale({ inputs: { z: [[1, 2, 3, 4]] } }), 422, 'invalid_input', '/inputs/z', /"z", expected "x"/],
    ['one with an unknown output', scale({ outputs: ['q'] }), 422, 'invalid_input', '/outputs/0', /"q", expected "y"/],
    ['one with a wrong shape', scale({ inputs: { x: [[1, 2, 3]] } }), 422, 'invalid_input', '/inputs/x', /\[1, 3\], expected \[n, 4\]/],
    ['one with no rows', scale({ inputs: { x: { shape: [0, 4], data: [] } } }), 422, 'invalid_input', '/inputs', /0 rows/],
    ['one with text among numbers', scale({ inputs: { x: [[1, 2, 'a', 4]] } }), 422, 'invalid_input', '/inputs/x/0/2', /"a", expected a number/],
  ])('refuses a body that is %s', async (_name, payload, status, code, pointer, detail) => {
    const response = await post(payload)
    const problem = response.json<Problem>()
    expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect([response.statusCode, problem.status, problem.code]).toEqual([status, status, code])
    expect(problem.error).toBe(problem.detail)
    expect(problem.instance).toBe(`urn:flyweight:request:${response.headers['x-request-id'] as string}`)
    const field = problem.errors?.find((error) => error.pointer === pointer)
    expect(field?.detail ?? problem.detail).toMatch(detail)
  })

  it('refuses other content types, larger bodies, other methods and unknown queries', async () => {
    const text = await post('x', { headers: { 'content-type': 'text/plain' } })
    expect([text.statusCode, text.json<Problem>().code]).toEqual([415, 'unsupported_media'])
    expect(text.json<Problem>().detail).toContain('text/plain')
    expect((await post(' '.repeat(100_001))).statusCode).toBe(413)
    const put = await gateway.server.inject({ method: 'PUT', url: '/infer' })
    expect([put.statusCode, put.headers.allow]).toEqual([405, 'POST'])
    const query = await post(scale(), { query: '?explane=1' })
    expect([query.statusCode, query.json<Problem>().errors?.[0]?.pointer]).toEqual([400, '/query/explane'])
  })

  it('refuses at once with Retry-After what cannot be in time, where the client says so', async () => {
    const response = await post(scale({ sla: { latencyMs: 0.000001, onMiss: 'reject' } }))
    expect([response.statusCode, response.json<Problem>().code]).toEqual([503, 'sla_unmet'])
    expect(Number(response.headers['retry-after'])).toBeGreaterThanOrEqual(1)
  })

  it('tells the gateway when the client leaves', async () => {
    const address = new URL(await gateway.listen())
    const body = JSON.stringify({ model: 'digits', inputs: { x: { shape: [8, 1, 28, 28], data: Array.from({ length: 8 * 784 }, () => 0) } } })
    const request = `POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
    // A lane takes one batch at a time: when the first answer comes, most others are waiting still.
    const sockets = Array.from({ length: 200 }, () => connect(Number(address.port), address.hostname))
    for (const socket of sockets) socket.write(request)
    await Promise.race(sockets.map((socket) => new Promise((resolve) => socket.once('data', resolve))))
    for (const socket of sockets) socket.destroy()
    const cancelled = async () => Number(/_seconds_count\{[^}]*outcome="cancelled"\} (\d+)/.exec((await gateway.server.inject('/metrics')).body)?.[1] ?? 0)
    await expect.poll(cancelled, { timeout: 20_000 }).toBeGreaterThan(0)
    expect((await post(scale())).statusCode).toBe(200)
  })
})

describe('what is not a request', () => {
  it('is answered with a problem, and the next one with an answer', async () => {
    const { port, hostname } = new URL(gateway.address() || (await gateway.listen()))
    const talk = (text: string) =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(port), hostname, () => socket.write(text))
        let all = ''
        socket.on('data', (chunk: Buffer) => (all += chunk.toString()))
        socket.on('close', () => resolve(all))
      })
    const garbage = await talk('HELLO\r\n\r\n')
    expect(garbage).toMatch(/^HTTP\/1.1 400 Bad Request\r\nContent-Type: application\/problem\+json/)
    expect(garbage).toMatch(/"error":"this is not an HTTP request"/)
    expect((await gateway.server.inject('/healthz')).statusCode).toBe(200)
    const url = await gateway.server.inject('/%E0%A4%A')
    expect([url.statusCode, url.json<Problem>().code]).toEqual([400, 'malformed'])
    const missing = await gateway.server.inject('/infre')
    expect([missing.statusCode, missing.json<Problem>().error]).toEqual([404, 'there is no GET /infre; see /docs'])
  })
})
