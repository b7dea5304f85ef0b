// A search as its users see it: variants that can be used while it goes on, a report that accounts for every candidate,
// and what a cancelled one leaves behind.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '#flyweight/http/problem.js'
import type { SearchJobResult } from '#flyweight/jobs/search-job.js'
import type { DecisionReport } from '#flyweight/measurements.js'
import type { Variant } from '#flyweight/registry/model.js'
import { startGateway, type TestGateway } from './gateway.js'

interface JobView {
  id: string
  kind: string
  state: string
  result?: SearchJobResult
  log: string[]
}

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway()))
afterAll(() => gateway.stop())

const post = (payload: object) => gateway.server.inject({ method: 'POST', url: '/admin/compress', payload })
const get = async <Answer>(url: string) => (await gateway.server.inject({ method: 'GET', url })).json<Answer>()
const variantsOf = () => gateway.catalog.variants('digits', '1').filter(({ source }) => !source)
const ended = ({ state }: JobView) => state !== 'queued' && state !== 'running'

async function search(budgetSeconds: number): Promise<JobView> {
  const answer = await post({ model: 'digits', recipe: 'auto', budgetSeconds })
  expect(answer.statusCode, answer.body).toBe(202)
  return answer.json<JobView>()
}

async function until(id: string, condition: (job: JobView) => boolean): Promise<JobView> {
  for (;;) {
    const job = await get<JobView>(`/admin/jobs/${id}`)
    if (condition(job)) return job
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

describe('a search', () => {
  it('keeps the variants it had found when it was cancelled, and its report so far', { timeout: 120_000 }, async () => {
    const { id, kind } = await search(100)
    expect(kind).toBe('search')
    const running = await until(id, ({ result }) => (result?.kept.length ?? 0) > 0 && result!.report.candidates.length > 0)
    expect(running.state).toBe('running')
    const [first] = running.result!.kept as [string]
    expect(gateway.catalog.variant(first)).toMatchObject({ state: 'ready', source: false })

    expect((await gateway.server.inject({ method: 'DELETE', url: `/admin/jobs/${id}` })).statusCode).toBe(200)
    const { state, result } = await get<JobView>(`/admin/jobs/${id}`)
    expect(state).toBe('cancelled')
    expect(result?.kept).toContain(first)
    expect(result?.report.candidates[0]).toMatchObject({ recipe: 'fp32' })
    const name = first.split(':').at(-1)
    const row = { x: { shape: [1, 1, 28, 28], data: Array<number>(784).fill(0) } }
    const answer = await gateway.server.inject({ method: 'POST', url: '/infer', payload: { model: 'digits', inputs: row, variant: name } })
    expect(answer.statusCode, answer.body).toBe(200)
  })

  it('registers the front, each member with its own report, and offers only what is not slower', { timeout: 120_000 }, async () => {
    const { id } = await search(8)
    const job = await until(id, ended)
    expect(job.state).toBe('succeeded')
    const { report, kept } = job.result!
    for (const { reason } of report.candidates) expect(reason).not.toBe('')
    expect(job.log.length).toBe(report.candidates.length - 1)
    const front = report.candidates.filter(({ fate, recipe }) => fate === 'front' && recipe !== 'fp32')
    expect(kept).toHaveLength(front.length)
    const variants = await Promise.all(kept.map((variant) => get<Variant>(`/admin/variants/${encodeURIComponent(variant)}`)))
    for (const [index, variant] of variants.entries()) {
      const { ratios, bytes, fidelity, variant: digest } = front[index]!
      expect(variant).toMatchObject({ state: 'ready', bytes, digest, fidelity: { score: fidelity } })
      if (!variant.sizeOnly) expect(ratios!.every(({ ratio }) => ratio <= 1)).toBe(true)
      const own = await get<DecisionReport>(`/admin/variants/${encodeURIComponent(variant.id)}/report`)
      expect(own.gate).toMatchObject({ admitted: true })
    }
    expect(variantsOf().map(({ id: one }) => one)).toEqual(expect.arrayContaining([...kept]))
  })

  it('needs a model that exists and time that is some, and time is for a search alone', async () => {
    expect((await post({ model: 'nope', recipe: 'auto' })).json<Problem>().code).toBe('model_not_found')
    expect((await post({ model: 'digits', recipe: 'auto', budgetSeconds: 0 })).json<Problem>()).toMatchObject({ code: 'malformed' })
    expect((await post({ model: 'digits', recipe: 'fp16', budgetSeconds: 9 })).json<Problem>().errors).toMatchObject([{ pointer: '/budgetSeconds' }])
    expect((await post({ model: 'digits', recipe: [{ pass: 'auto' }] })).json<Problem>().detail).toMatch(/search stands alone/)
  })
})
