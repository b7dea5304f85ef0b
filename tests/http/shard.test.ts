// Sharding as its users see it: a model that no lane may hold is refused with what to do, is cut by request into stages
// that fit the devices, and then serves, with the whole's answers.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import type { Problem } from '#flyweight/http/problem.js'
import type { ShardResult } from '#flyweight/jobs/shard-job.js'
import type { Variant } from '#flyweight/registry/model.js'
import { openSession } from '#flyweight/runtime/session.js'
import { startGateway, type TestGateway } from './gateway.js'

/** digits has 246,906 bytes: too many for a lane or a device, not for two. */
const BUDGET = 160_000

interface JobView {
  id: string
  kind: string
  state: string
  result?: ShardResult
  error?: { code: string; detail: string }
}

let gateway: TestGateway
beforeAll(async () => {
  gateway = await startGateway({ serving: { laneBudgetBytes: BUDGET }, sharding: { devices: [`cpu:0=${BUDGET}`, `cpu:1=${BUDGET}`] } })
}, 60_000)
afterAll(() => gateway.stop())

const post = (url: string, payload: object, headers: Record<string, string> = {}) => gateway.server.inject({ method: 'POST', url, payload, headers })
const get = async <Answer>(url: string) => (await gateway.server.inject({ method: 'GET', url })).json<Answer>()
const digit = (rows: number) => ({ inputs: { x: Array.from({ length: rows }, (_, row) => [pixels(row)]) } })
const pixels = (row: number) => Array.from({ length: 28 }, (_, y) => Array.from({ length: 28 }, (_, x) => ((x * y + row) % 17) / 17))

async function ended(id: string): Promise<JobView> {
  for (;;) {
    const job = await get<JobView>(`/admin/jobs/${id}`)
    if (job.state !== 'queued' && job.state !== 'running') return job
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

describe('a model larger than any device', () => {
  it('is refused, with the request that shards it', async () => {
    const refused = await post('/infer', { model: 'digits', ...digit(1) })
    expect([refused.statusCode, refused.json<Problem>().code], refused.body).toEqual([503, 'out_of_memory'])
    expect(refused.json<Problem>().detail).toContain('POST /admin/shard {"model":"digits","version":"1"}')
    const { considered } = await get<{ considered: { variant: string; reason: string }[] }>('/admin/routes/explain?model=digits')
    expect(considered.find(({ variant }) => variant === 'fp32')?.reason).toContain('POST /admin/shard')
  })

  it('serves once it is sharded, with the answers of the whole', { timeout: 120_000 }, async () => {
    const accepted = await post('/admin/shard', { model: 'digits' }, { 'idempotency-key': 'once' })
    expect(accepted.statusCode, accepted.body).toBe(202)
    const { id } = accepted.json<JobView>()
    expect(accepted.headers.location).toBe(`/admin/jobs/${id}`)
    expect((await post('/admin/shard', { model: 'digits' }, { 'idempotency-key': 'once' })).json<JobView>().id).toBe(id)
    const job = await ended(id)
    expect(job.error).toBeUndefined()
    expect(job).toMatchObject({ kind: 'shard', state: 'succeeded' })

    const variant = await get<Variant>('/admin/variants/digits:1:sharded-2')
    expect(variant).toMatchObject({ state: 'ready', fidelity: { score: 1 }, shards: { parent: 'digits:1:fp32', plan: { strategy: 'pipeline' } } })
    const { plan, stages } = variant.shards!
    expect(plan.stages.map(({ device }) => device)).toEqual(['cpu:0', 'cpu:1'])
    for (const { weightBytes, computeMs } of plan.stages) {
      expect(weightBytes).toBeGreaterThan(0)
      expect(weightBytes).toBeLessThanOrEqual(BUDGET)
      expect(computeMs).toBeGreaterThan(0)
    }
    expect(stages[1]!.inputs.every((name) => stages[0]!.outputs.includes(name))).toBe(true)
    expect(JSON.stringify(variant)).not.toContain(gateway.folder)

    for (const pinned of [{}, { variant: 'sharded-2' }]) {
      const answered = await post('/infer', { model: 'digits', ...digit(5), ...pinned })
      expect(answered.statusCode, answered.body).toBe(200)
      const body = answered.json<{ variant: string; outputs: Record<string, { data: number[] }> }>()
      expect(body.variant).toBe('sharded-2')
      const session = await openSession('models/digits/1/model.onnx')
      const data = Float32Array.from(digit(5).inputs.x.flat(3))
      const whole = Object.values(await session.run({ [session.inputs[0]!.name]: { dtype: 'float32', dims: [5, 1, 28, 28], data } }))[0]!.data as Float32Array
      await session.release()
      const given = Object.values(body.outputs)[0]!.data.flat()
      expect(given).toHaveLength(whole.length)
      for (const [index, value] of given.entries()) expect(value).toBeCloseTo(whole[index]!, 4)
    }
    const metrics = (await gateway.server.inject({ method: 'GET', url: '/metrics' })).body
    for (const stage of [0, 1]) {
      expect(metrics).toMatch(
        new RegExp(`flyweight_stage_micro_batches_total\\{model="digits",variant="sharded-2",stage="${stage}",device="cpu:${stage}"\\} [1-9]`),
      )
    }
    const { entries } = await get<{ entries: { variant: string; lane: number }[] }>('/admin/cache')
    expect(entries.filter((entry) => entry.variant === 'digits:1:sharded-2')).toMatchObject([{ lane: 1 }])
    const plot = await gateway.server.inject({ method: 'GET', url: '/admin/variants/digits:1:sharded-2/plan.svg' })
    expect([plot.statusCode, plot.headers['content-type']]).toEqual([200, 'image/svg+xml'])
    expect(plot.body).toContain('cpu:1')
    expect((await gateway.server.inject({ method: 'GET', url: '/admin/variants/digits:1:fp32/plan.svg' })).statusCode).toBe(404)
    const stage = await gateway.server.inject({ method: 'GET', url: '/admin/variants/digits:1:sharded-2/artifact?file=stage-1.onnx' })
    expect([stage.statusCode, stage.rawPayload.length > 1000]).toEqual([200, true])
  })
})

describe('other ways to shard', () => {
  const sharded = async (wish: object) => ended((await post('/admin/shard', { model: 'digits', ...wish })).json<JobView>().id)

  it('gives KServe a service for each stage, and files for its storage', async () => {
    const job = await sharded({ stages: 2, target: 'kserve', kserve: { image: 'example.com/flyweight:1', storage: 's3://models/digits' } })
    expect(job.error).toBeUndefined()
    const { kserve, variant } = job.result!
    expect(variant).toBeUndefined()
    expect(parseAllDocuments(kserve!.manifests).map((document) => document.toJS().metadata.name)).toEqual(['digits-0', 'digits-1', 'digits'])
    expect(readFileSync(join(kserve!.folder, 'kserve.yaml'), 'utf8')).toBe(kserve!.manifests)
    const session = await openSession(join(kserve!.folder, 'storage/digits-0/digits-0/1/model.onnx'))
    expect(session.inputs.map(({ name }) => name)).toEqual(['x'])
    await session.release()
  })

  it('cuts a variant, and layers into parts', { timeout: 120_000 }, async () => {
    const [compressed] = [(await post('/admin/compress', { model: 'digits', recipe: 'int8-dynamic' })).json<JobView>()]
    await ended(compressed.id)
    const variants = (await get<{ variants: Variant[] }>('/admin/variants?model=digits')).variants
    const int8 = variants.find(({ name }) => name.startsWith('int8'))!
    expect((await sharded({ variant: int8.name, stages: 2 })).result?.variant).toMatchObject({ name: `${int8.name}-sharded-2`, fidelity: int8.fidelity })
    expect((await sharded({ strategy: 'tensor', stages: 2 })).result?.variant).toMatchObject({ name: 'tensor-2', state: 'ready' })
    const answers = []
    for (const variant of ['sharded-2', 'tensor-2'])
      answers.push((await post('/infer', { model: 'digits', ...digit(1), variant })).json<{ outputs: Record<string, { data: number[][] }> }>())
    const [stages, parts] = answers.map(({ outputs }) => Object.values(outputs)[0]!.data.flat())
    for (const [index, value] of parts!.entries()) expect(value).toBeCloseTo(stages![index]!, 4)
  })
})

describe('a wish that cannot be met', () => {
  it.each([
    [{ model: 'digits', stages: 3 }, 422, '/stages', 'cpu:0, cpu:1'],
    [{ model: 'digits', devices: ['cpu:0', 'cpu:7'] }, 422, '/devices', 'cpu:7'],
    [{ model: 'digits', cuts: ['a'], patterns: [['a'], ['b']] }, 422, '/patterns', 'one of the two'],
    [{ model: 'digits', cuts: ['a'], strategy: 'tensor' }, 422, '/cuts', 'pipeline only'],
    [{ model: 'digits', variant: 'nope' }, 404, '/variant', 'fp32'],
    [{ model: 'digits', stages: 1 }, 422, '/stages', '2 or more'],
    [{ model: 'digits', target: 'kserve' }, 422, '/kserve', 'is missing'],
  ])('%j is refused at once', async (wish, status, pointer, detail) => {
    const refused = await post('/admin/shard', wish)
    const problem = refused.json<Problem>()
    expect([refused.statusCode, problem.errors?.[0]?.pointer], refused.body).toEqual([status, pointer])
    expect(problem.errors?.[0]?.detail).toContain(detail)
  })

  it('fails its job where only the graph shows that', { timeout: 60_000 }, async () => {
    const { id } = (await post('/admin/shard', { model: 'digits', cuts: ['nothing'] })).json<JobView>()
    expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'invalid_plan' } })
  })
})
