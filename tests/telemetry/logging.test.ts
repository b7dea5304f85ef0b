import { Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { createLogger } from '#flyweight/telemetry/logging.js'

function capture(): { lines: Record<string, unknown>[]; destination: Writable } {
  const lines: Record<string, unknown>[] = []
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>)
      done()
    },
  })
  return { lines, destination }
}

describe('the log', () => {
  it('is one JSON object a line, with level and time in words', () => {
    const { lines, destination } = capture()
    createLogger({ level: 'info', destination }).info({ model: 'm' }, 'ready')
    expect(lines).toEqual([{ level: 'info', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) as string, model: 'm', msg: 'ready' }])
  })

  it('hides what gives access', () => {
    const { lines, destination } = capture()
    createLogger({ level: 'info', destination }).info(
      { req: { headers: { authorization: 'Bearer fw_secret', cookie: 'a=secret', accept: 'x' } }, headers: { 'x-api-key': 'secret' } },
      'request',
    )
    expect(JSON.stringify(lines)).not.toContain('secret')
    expect(JSON.stringify(lines)).toContain('"accept":"x"')
  })

  it('keeps to its level', () => {
    const { lines, destination } = capture()
    createLogger({ level: 'warn', destination }).info('no')
    expect(lines).toEqual([])
  })
})
