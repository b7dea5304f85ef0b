import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '#flyweight/http/problem.js'
import { startGateway, type TestGateway } from './gateway.js'

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway()))
afterAll(() => gateway.stop())

const get = (url: string) => gateway.server.inject({ method: 'GET', url })

async function finished(payload: object, path: string): Promise<string> {
  const { id } = (await gateway.server.inject({ method: 'POST', url: path, payload })).json<{ id: string }>()
  await get(`/admin/jobs/${id}/events`)
  return id
}

describe('the plot of a job', () => {
  it('is an SVG of the front that a search found', { timeout: 120_000 }, async () => {
    const id = await finished({ model: 'scale', recipe: 'auto', budgetSeconds: 2 }, '/admin/compress')
    const { statusCode, headers, body, rawPayload } = await get(`/admin/jobs/${id}/plot.svg`)
    expect([statusCode, headers['content-type']], body).toEqual([200, 'image/svg+xml'])
    expect(headers['content-security-policy']).toBe("default-src 'none'; style-src 'unsafe-inline'")
    expect(body).toContain('>fp32<')
    expect(await sharp(rawPayload).metadata()).toMatchObject({ format: 'svg', width: 880 })
  })

  it('is 404 for a job that is no search, and for one that does not exist, saying which', async () => {
    const id = await finished({ model: 'scale' }, '/admin/profile')
    const other = await get(`/admin/jobs/${id}/plot.svg`)
    expect([other.statusCode, other.json<Problem>()]).toMatchObject([
      404,
      { code: 'not_found', detail: `job ${id} has no plot: its kind is profile, expected search (recipe auto) or train` },
    ])
    expect((await get('/admin/jobs/x/plot.svg')).json<Problem>().code).toBe('job_not_found')
  })
})
