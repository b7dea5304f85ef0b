import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '#flyweight/http/problem.js'
import { saveModel } from '#flyweight/onnx/load.js'
import { decodeModel } from '#flyweight/onnx/proto.js'
import { startGateway, type TestGateway } from './gateway.js'
import { scaleModel } from '../scale-model.js'

interface JobView {
  id: string
  state: string
  payload?: unknown
}

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway({ server: { maxModelBytes: 500_000 } })))
afterAll(() => gateway.stop())

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'
const call = (method: Method, url: string, payload?: object, headers: Record<string, string> = {}) =>
  gateway.server.inject({ method, url, headers, ...(payload && { payload }) })
const octets = { 'content-type': 'application/octet-stream' }

/** A multipart body, written by hand so that odd ones can be written too. */
function multipart(parts: readonly { name: string; filename?: string; content: Buffer | string }[]): { payload: Buffer; headers: Record<string, string> } {
  const chunks = parts.flatMap(({ name, filename, content }) => [
    Buffer.from(
      `--edge\r\nContent-Disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"\r\nContent-Type: application/octet-stream`}\r\n\r\n`,
    ),
    Buffer.from(content),
    Buffer.from('\r\n'),
  ])
  return { payload: Buffer.concat([...chunks, Buffer.from('--edge--\r\n')]), headers: { 'content-type': 'multipart/form-data; boundary=edge' } }
}

const double = async (name: string): Promise<unknown> => {
  const response = await call('POST', '/infer', { model: name, inputs: { x: [[1, 2, 3, 4]] } })
  return response.json<{ outputs?: { y: { data: unknown } } }>().outputs?.y.data ?? response.body
}
const uploads = () => readdirSync(join(gateway.folder, 'data', 'uploads'))

describe('models', () => {
  it('are listed and described', async () => {
    const { models } = (await call('GET', '/admin/models')).json<{ models: object[] }>()
    expect(models).toContainEqual({ name: 'scale', version: '1', state: 'READY', reason: '' })
    const found = (await call('GET', '/admin/models/scale')).json<{ versions: object[] }>()
    expect(found.versions).toMatchObject([
      { name: 'scale', version: '1', labels: 4, hasSamples: false, signature: { batchable: true, inputs: [{ name: 'x', dims: ['n', 4] }] } },
    ])
    expect(JSON.stringify(found)).not.toContain(gateway.folder)
    expect((await call('GET', '/admin/models/nope')).statusCode).toBe(404)
  })

  it('are uploaded as a plain body and serve at once', async () => {
    const response = await call('POST', '/admin/models?name=triple', Buffer.from(scaleModel(3)), octets)
    expect([response.statusCode, response.headers.location], response.body).toEqual([201, '/admin/models/triple'])
    expect(response.json()).toMatchObject({ name: 'triple', version: '1' })
    expect(await double('triple')).toEqual([3, 6, 9, 12])
    expect(uploads()).toEqual([])
    const again = await call('POST', '/admin/models?name=triple&version=1', Buffer.from(scaleModel(4)), octets)
    expect([again.statusCode, again.json<Problem>().code]).toEqual([409, 'conflict'])
    const newer = await call('POST', '/admin/models?name=triple', Buffer.from(scaleModel(5)), octets)
    expect(newer.json()).toMatchObject({ version: '2' })
    expect(await double('triple')).toEqual([5, 10, 15, 20])
  })

  it('are uploaded in parts, with settings', async () => {
    const { payload, headers } = multipart([
      { name: 'name', content: 'parts' },
      { name: 'config', content: 'sla:\n  latencyMs: 250\n' },
      { name: 'model', filename: 'anything.onnx', content: Buffer.from(scaleModel(7)) },
      { name: 'version', content: '4' },
    ])
    const response = await call('POST', '/admin/models', payload, headers)
    expect(response.statusCode, response.body).toBe(201)
    expect(response.json()).toMatchObject({ name: 'parts', version: '4', manifest: { sla: { latencyMs: 250 } } })
    expect(await double('parts')).toEqual([7, 14, 21, 28])
  })

  it.each<[string, () => { url?: string; payload: Buffer; headers: Record<string, string> }, number, string, RegExp]>([
    ['no name', () => ({ payload: Buffer.from(scaleModel(2)), headers: octets }), 400, 'malformed', /name is missing/],
    ['a name that leaves the folder', () => ({ url: '?name=..%2Fx', payload: Buffer.from(scaleModel(2)), headers: octets }), 400, 'malformed', /name/],
    ['what is no model', () => ({ url: '?name=bad', payload: Buffer.from('no model at all'), headers: octets }), 422, 'invalid_model', /./],
    ['an empty body', () => ({ url: '?name=bad', payload: Buffer.alloc(0), headers: octets }), 422, 'invalid_model', /./],
    ['too many bytes', () => ({ url: '?name=big', payload: Buffer.alloc(600_000), headers: octets }), 413, 'too_large', /./],
    ['too many bytes in parts', () => multipart([{ name: 'model', filename: 'm', content: Buffer.alloc(600_000) }]), 413, 'too_large', /./],
    ['parts without a model', () => multipart([{ name: 'name', content: 'x' }]), 400, 'malformed', /\/model is missing/],
    ['an unknown part', () => multipart([{ name: 'nmae', content: 'x' }]), 400, 'unknown_field', /\/nmae/],
    ['external data with a path for a name', () => multipart([{ name: 'data', filename: '.hidden', content: 'x' }]), 400, 'malformed', /plain name/],
    ['settings with an unknown field', () => multipart([{ name: 'config', content: 'slo: {}' }]), 400, 'unknown_field', /\/config\/slo/],
    ['settings that are not YAML', () => multipart([{ name: 'config', content: '{' }]), 400, 'malformed', /not YAML/],
    [
      'JSON',
      () => ({ url: '?name=x', payload: Buffer.from('{}'), headers: { 'content-type': 'application/json' } }),
      415,
      'unsupported_media',
      /application\/json/,
    ],
    [
      'an unfinished multipart body',
      () => ({
        payload: Buffer.from('--edge\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nabc'),
        headers: { 'content-type': 'multipart/form-data; boundary=edge' },
      }),
      400,
      'malformed',
      /./,
    ],
  ])('are refused with %s', async (_name, make, status, code, detail) => {
    const { url = '', payload, headers } = make()
    const response = await call('POST', `/admin/models${url}`, payload, headers)
    const problem = response.json<Problem>()
    expect([response.statusCode, problem.code], problem.detail).toEqual([status, code])
    expect(problem.detail).toMatch(detail)
    expect(uploads()).toEqual([])
    expect(await double('scale')).toEqual([2, 4, 6, 8])
  })

  it('with external data are uploaded in parts', async () => {
    const { external, data } = await externalModel()
    const { payload, headers } = multipart([
      { name: 'name', content: 'outside' },
      { name: 'model', filename: 'model.onnx', content: external },
      { name: 'data', filename: 'outside.onnx.data', content: data },
    ])
    const response = await call('POST', '/admin/models', payload, headers)
    expect(response.statusCode, response.body).toBe(201)
    expect(await double('outside')).toEqual([3, 6, 9, 12])
  })

  it('are removed, files and all', async () => {
    await call('POST', '/admin/models?name=gone', Buffer.from(scaleModel(9)), octets)
    expect((await call('DELETE', '/admin/models/gone?version=3')).statusCode).toBe(404)
    expect((await call('DELETE', '/admin/models/gone')).statusCode).toBe(204)
    expect((await call('GET', '/admin/models/gone')).statusCode).toBe(404)
    expect(readdirSync(join(gateway.folder, 'models'))).not.toContain('gone')
  })
})

describe('variants', () => {
  it('are listed with what was measured, and filtered', async () => {
    const { variants } = (await call('GET', '/admin/variants?model=digits')).json<{ variants: { id: string; file?: string }[] }>()
    expect(variants[0]).toMatchObject({ id: 'digits:1:fp32', source: true, state: 'ready', fidelity: { score: 1 } })
    expect(variants[0]?.file).toBeUndefined()
    expect((await call('GET', '/admin/variants?state=rejected')).json()).toEqual({ variants: [] })
    expect((await call('GET', '/admin/variants?state=odd')).json<Problem>().errors?.[0]?.pointer).toBe('/query/state')
    expect((await call('GET', '/admin/variants/digits:1:int4')).json<Problem>().code).toBe('variant_not_found')
  })

  it('give their artifact, or 304 to who has it', async () => {
    const file = readFileSync('models/digits/1/model.onnx')
    const first = await call('GET', '/admin/variants/digits:1:fp32/artifact')
    expect(first.rawPayload.equals(file)).toBe(true)
    expect(first.headers['content-disposition']).toContain('digits-fp32.onnx')
    const etag = first.headers.etag as string
    const second = await call('GET', '/admin/variants/digits:1:fp32/artifact', undefined, { 'if-none-match': `"other", ${etag}` })
    expect([second.statusCode, second.rawPayload.byteLength]).toEqual([304, 0])
    for (const name of ['../../catalog.db', 'report.json', 'nope']) {
      expect((await call('GET', `/admin/variants/digits:1:fp32/artifact?file=${encodeURIComponent(name)}`)).statusCode).toBe(404)
    }
  })

  it('are pinned and unpinned; the source variant cannot be deleted and has no report', async () => {
    expect((await call('PUT', '/admin/variants/digits:1:fp32/pin')).json()).toMatchObject({ pinned: true })
    expect((await call('DELETE', '/admin/variants/digits:1:fp32/pin')).json()).toMatchObject({ pinned: false })
    expect((await call('DELETE', '/admin/variants/digits:1:fp32')).json<Problem>().code).toBe('conflict')
    expect((await call('GET', '/admin/variants/digits:1:fp32/report')).json<Problem>().code).toBe('not_found')
  })
})

describe('memory and routing', () => {
  it('show what is loaded, and evict it', async () => {
    await double('scale')
    const cache = (await call('GET', '/admin/cache')).json<{ entries: { variant: string }[]; budgetBytes: number }>()
    expect(cache.entries.map(({ variant }) => variant)).toContain('scale:1:fp32')
    expect((await call('DELETE', '/admin/cache?variant=scale:1:fp32')).json()).toEqual({ evicted: 1 })
    expect((await call('GET', '/admin/cache')).body).not.toContain('"scale:1:fp32"')
    expect((await call('DELETE', '/admin/cache?variant=scale:1:int4')).statusCode).toBe(404)
  })

  it('explain a route without running it', async () => {
    const loose = (await call('GET', '/admin/routes/explain?model=digits&slaMs=10000&minFidelity=0.9&rows=2')).json()
    expect(loose).toMatchObject({ model: 'digits', version: '1', chosen: 'fp32', sla: { latencyMs: 10000, minFidelity: 0.9 } })
    const bad = (await call('GET', '/admin/routes/explain?model=digits&slaMs=fast')).json<Problem>()
    expect(bad.errors).toEqual([{ pointer: '/query/slaMs', detail: 'is "fast", expected number' }])
    expect((await call('GET', '/admin/routes/explain')).json<Problem>().errors?.[0]?.pointer).toBe('/query/model')
    expect((await call('GET', '/admin/routes/explain?model=nope')).statusCode).toBe(404)
  })
})

describe('jobs', () => {
  it('compress a model: accepted, watched to the end, and then the variant is there at once', { timeout: 120_000 }, async () => {
    const wish = { model: 'digits', recipe: 'fp16' }
    const accepted = await call('POST', '/admin/compress', wish, { 'idempotency-key': 'k1' })
    expect(accepted.statusCode, accepted.body).toBe(202)
    const job = accepted.json<JobView>()
    expect(accepted.headers.location).toBe(`/admin/jobs/${job.id}`)
    expect(job.payload).toBeUndefined()
    expect((await call('POST', '/admin/compress', wish, { 'idempotency-key': 'k1' })).json<JobView>().id).toBe(job.id)
    expect((await call('GET', '/admin/jobs?kind=compress')).json<{ jobs: JobView[] }>().jobs.map(({ id }) => id)).toContain(job.id)

    const { body, headers } = await call('GET', `/admin/jobs/${job.id}/events`)
    expect(headers['content-type']).toMatch(/^text\/event-stream/)
    const events = body
      .trim()
      .split('\n\n')
      // Comments keep a quiet stream open.
      .filter((text) => !text.startsWith(':'))
      .map((text) => ({ name: /^event: (\w+)/.exec(text)?.[1], data: JSON.parse(/^data: (.*)/m.exec(text)?.[1] ?? '{}') as JobView }))
    expect(events.slice(0, -1).every(({ name }) => name === 'progress')).toBe(true)
    expect(events.at(-1)).toMatchObject({ name: 'done', data: { id: job.id, state: 'succeeded' } })
    expect((await call('GET', `/admin/jobs/${job.id}`)).json<JobView>().state).toBe('succeeded')

    const built = await call('POST', '/admin/compress', wish)
    expect([built.statusCode, built.json<{ id: string }>().id]).toEqual([200, 'digits:1:fp16'])
    const report = await call('GET', '/admin/variants/digits:1:fp16/report')
    expect(report.json()).toMatchObject({ sourceDigest: expect.any(String) as string, nodes: expect.any(Array) as unknown[] })
    expect((await call('DELETE', '/admin/variants/digits:1:fp16')).statusCode).toBe(204)
    expect((await call('GET', '/admin/variants/digits:1:fp16')).statusCode).toBe(404)
    expect((await gateway.server.inject('/metrics')).body).toMatch(/flyweight_jobs_total\{kind="compress",state="succeeded"\} 1/)
  })

  it('are cancelled, and end their event streams', async () => {
    const { id } = (await call('POST', '/admin/compress', { model: 'digits', recipe: 'int8' })).json<JobView>()
    const stream = call('GET', `/admin/jobs/${id}/events`)
    expect((await call('DELETE', `/admin/jobs/${id}`)).statusCode).toBe(200)
    expect((await stream).body).toMatch(/event: done\ndata: .*"state":"cancelled"/)
  })

  it.each<[string, object, number, string, RegExp]>([
    ['an unknown model', { model: 'nope', recipe: 'int8' }, 404, 'model_not_found', /nope/],
    ['an unknown recipe', { model: 'digits', recipe: 'int3' }, 422, 'invalid_recipe', /int3/],
    ['no recipe', { model: 'digits' }, 400, 'malformed', /\/recipe is missing/],
    ['an unknown field', { model: 'digits', recipe: 'int8', fast: true }, 400, 'unknown_field', /\/fast/],
    ['a recipe that is a number', { model: 'digits', recipe: 8 }, 400, 'malformed', /\/recipe is 8/],
  ])('are refused for %s', async (_name, body, status, code, detail) => {
    const response = await call('POST', '/admin/compress', body)
    const problem = response.json<Problem>()
    expect([response.statusCode, problem.code]).toEqual([status, code])
    expect(problem.detail).toMatch(detail)
  })

  it('that do not exist are 404', async () => {
    for (const [method, url] of [
      ['GET', '/admin/jobs/x'],
      ['DELETE', '/admin/jobs/x'],
      ['GET', '/admin/jobs/x/events'],
    ] as const) {
      expect((await call(method, url)).json<Problem>().code).toBe('job_not_found')
    }
  })
})

describe('the signpost and the documentation', () => {
  it('are where the links say', async () => {
    const { links } = (await call('GET', '/')).json<{ links: Record<string, string> }>()
    for (const [name, url] of Object.entries(links)) {
      if (name === 'infer') continue
      const { statusCode } = await call('GET', url)
      expect(statusCode, url).toBe(200)
    }
    const docs = await call('GET', '/docs')
    expect(docs.headers['content-security-policy']).toMatch(/default-src 'self'/)
    expect((await gateway.server.inject({ method: 'HEAD', url: '/healthz' })).statusCode).toBe(200)
  })
})

/** y = 3x, with the factor in a file of its own. */
async function externalModel(): Promise<{ external: Buffer; data: Buffer }> {
  const file = join(gateway.folder, 'outside.onnx')
  await saveModel(decodeModel(scaleModel(3)), file, { externalThresholdBytes: 0 })
  return { external: readFileSync(file), data: readFileSync(`${file}.data`) }
}
