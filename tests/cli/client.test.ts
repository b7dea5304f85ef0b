import { connect, sseData } from '#flyweight/cli/client.js'
import fc from 'fast-check'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'

let server: Server | undefined
afterEach(() => server?.close())

async function answering(status: number, body: string, type = 'application/json'): Promise<string> {
  server = createServer((_request, response) => response.writeHead(status, { 'content-type': type }).end(body))
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('connect', () => {
  it('gives a problem its own code, detail and fields', async () => {
    const problem = { code: 'invalid_input', detail: 'input x does not fit', errors: [{ pointer: '/inputs/x', detail: 'came [1], expected [2]' }] }
    const url = await answering(422, JSON.stringify(problem))
    await expect(connect(url).get('/x')).rejects.toMatchObject({ code: 'invalid_input', message: 'input x does not fit', errors: problem.errors })
  })

  it('reports an answer that is no problem document by its text', async () => {
    const url = await answering(502, 'bad gateway', 'text/plain')
    await expect(connect(url).get('/x')).rejects.toThrow('bad gateway')
  })

  it('says where no gateway answers and what to do', async () => {
    const url = await answering(200, '{}')
    await new Promise((resolve) => server?.close(resolve))
    await expect(connect(url).get('/x')).rejects.toThrow(/no gateway answers at .*npm start/)
  })

  it('takes an address with a slash at its end', async () => {
    const url = await answering(200, '{"ok":true}')
    expect(await connect(`${url}/`).get('/x')).toEqual({ ok: true })
  })
})

describe('sseData', () => {
  it('reads the same events wherever the stream is cut', async () => {
    const events = ['{"a":1}', '{"text":"grüße"}', '{"last":true}']
    const text = Buffer.from(`: hello\n\n${events.map((data) => `event: progress\r\ndata: ${data}\r\n\r\n`).join('')}`)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: text.length }), { maxLength: 12 }), async (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), text.length]
        const chunks = at.slice(1).map((end, index) => text.subarray(at[index], end))
        const seen: string[] = []
        for await (const data of sseData(chunksOf(chunks))) seen.push(data)
        expect(seen).toEqual(events)
      }),
      { seed: 7 },
    )
  })
})

async function* chunksOf(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield await Promise.resolve(chunk)
}
