// The committed API description: what the routes say now, OpenAPI 3.1, examples on every body.
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { errorTable } from '#flyweight/errors.js'
import { startGateway, type TestGateway } from './gateway.js'

interface Media {
  schema: { $ref?: string }
  example?: unknown
  examples?: object
}
interface Operation {
  operationId: string
  summary: string
  tags: string[]
  parameters?: { name: string; in: string }[]
  requestBody?: { content: Record<string, Media> }
  responses: Record<string, { description: string; content?: Record<string, Media> }>
}
interface Description {
  openapi: string
  info: { version: string }
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, object> }
}

let gateway: TestGateway
let served: Description
let operations: [name: string, operation: Operation][]
beforeAll(async () => {
  gateway = await startGateway()
  served = (await gateway.server.inject('/docs/json')).json<Description>()
  operations = Object.entries(served.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Operation] => [`${method} ${path}`, operation]),
  )
})
afterAll(() => gateway.stop())

/** One of each path parameter, so that every route can be called. */
const fill = (path: string) => path.replaceAll('{model}', 'scale').replaceAll('{version}', '1').replaceAll('{name}', 'scale').replaceAll('{id}', 'scale:1:fp32')

describe('the API description', () => {
  it('is the committed one (npm run openapi writes it)', () => {
    const committed = JSON.parse(readFileSync('docs/openapi.json', 'utf8')) as Description
    expect(served).toEqual(committed)
  })

  it('is OpenAPI 3.1 with unique operation ids', () => {
    expect(served.openapi).toBe('3.1.0')
    const ids = operations.map(([, { operationId }]) => operationId)
    expect(ids.every((id) => /^[a-z][A-Za-z0-9]+$/.test(id))).toBe(true)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('has every route', async () => {
    for (const [name] of operations) {
      const [method = '', path = ''] = name.split(' ')
      const { statusCode, body } = await gateway.server.inject({
        method: method.toUpperCase() as 'GET',
        url: fill(path).replace('scale:1:fp32/events', 'none/events'),
      })
      expect([405].includes(statusCode), `${name}: ${body}`).toBe(false)
      if (statusCode === 404) expect(body, name).not.toContain('"code":"not_found","error":"there is no')
    }
    for (const path of [
      '/infer',
      '/healthz',
      '/readyz',
      '/metrics',
      '/v2/models/{model}/infer',
      '/admin/compress',
      '/admin/jobs/{id}/events',
      '/admin/routes/explain',
    ]) {
      expect(Object.keys(served.paths)).toContain(path)
    }
  })

  it('has an example on every body', () => {
    for (const [name, { requestBody, responses }] of operations) {
      const bodies = [requestBody, ...Object.values(responses)].flatMap((body) => Object.entries(body?.content ?? {}))
      for (const [type, media] of bodies) expect(media.example ?? media.examples, `${name} ${type}`).toBeDefined()
    }
  })

  it('documents errors as problems, each by its code', () => {
    for (const [name, { responses }] of operations) {
      const failures = Object.entries(responses).filter(([status]) => Number(status) >= 400)
      expect(
        failures.map(([status]) => status),
        name,
      ).toContain('500')
      for (const [status, { description, content }] of failures) {
        const media = content?.['application/problem+json']
        expect(media?.schema.$ref, `${name} ${status}`).toBe('#/components/schemas/Problem')
        const codes = [...description.matchAll(/`(\w+)`:/g)].map(([, code]) => code as keyof typeof errorTable)
        expect(codes.length, `${name} ${status}`).toBeGreaterThan(0)
        for (const code of codes) expect(errorTable[code].status, `${name} ${code}`).toBe(Number(status))
      }
    }
  })

  it('has every parameter of a path, and every schema it refers to', () => {
    for (const [name, { parameters = [] }] of operations) {
      for (const [, parameter] of name.matchAll(/\{(\w+)\}/g)) expect(parameters, name).toContainEqual(expect.objectContaining({ name: parameter, in: 'path' }))
    }
    const text = JSON.stringify(served)
    const references = new Set([...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, reference]) => reference as string))
    for (const reference of references) expect(Object.keys(served.components.schemas)).toContain(reference.replace('#/components/schemas/', ''))
  })
})
