import { connect } from '#flyweight/cli/client.js'
import { compress } from '#flyweight/cli/compress.js'
import { followJob } from '#flyweight/cli/job-progress.js'
import { reportLines } from '#flyweight/cli/report.js'
import { openTerminal } from '#flyweight/cli/terminal.js'
import type { DecisionReport } from '#flyweight/measurements.js'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'

let server: Server | undefined
afterEach(() => server?.close())

/** A gateway that answers these paths: an object as JSON, a string as a stream of events. */
async function gatewayOf(answers: Readonly<Record<string, object | string>>) {
  server = createServer((request, response) => {
    const answer = answers[`${request.method} ${decodeURIComponent(request.url ?? '')}`]
    if (answer === undefined) response.writeHead(404).end(JSON.stringify({ code: 'not_found', detail: `no ${request.url}` }))
    else if (typeof answer === 'string') response.writeHead(200, { 'content-type': 'text/event-stream' }).end(answer)
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  })
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve))
  return connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
}

function recorder() {
  const lines: Record<string, unknown>[] = []
  const stdout = new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().trim().split('\n')) lines.push(JSON.parse(line) as Record<string, unknown>)
      done()
    },
  })
  return { lines, terminal: openTerminal({ json: true, stdout: stdout as unknown as NodeJS.WriteStream }) }
}

const event = (name: string, data: object) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
const job = { id: 'j1', kind: 'compress', state: 'running', progress: { fraction: 0.5, step: 'calibrating' }, createdAt: '2026-01-15T09:30:00.000Z' }
const succeeded = { ...job, state: 'succeeded', progress: { fraction: 1, step: 'done' }, result: { variant: { id: 'digits:1:int8' } } }

function report(admitted: boolean): DecisionReport {
  return {
    recipe: [{ pass: 'int8-static', calibration: 'min-max' }],
    chosenBecause: 'most of the time goes into Conv',
    toolchain: 'flyweight 0.1.0',
    sourceDigest: 'aa',
    nodes: [
      { node: 'conv1', opType: 'Conv', pass: 'int8-static', action: 'done', reason: 'quantized' },
      { node: 'relu1', opType: 'Relu', pass: 'int8-static', action: 'skipped', reason: 'a lone Relu does not fuse' },
      { node: 'relu2', opType: 'Relu', pass: 'int8-static', action: 'skipped', reason: 'a lone Relu does not fuse' },
    ],
    passes: [{ pass: 'int8-static', seconds: 3.21, summary: '13 nodes became 31' }],
    fidelity: {
      score: 0.9912,
      definition: 'share of equal predictions',
      samples: 256,
      synthetic: false,
      outputs: {},
      accuracy: { source: 0.985, variant: 0.98 },
    },
    gate: {
      admitted,
      reason: admitted ? 'faster everywhere' : 'slower at batch 1',
      finite: true,
      latencies: [{ batch: 1, parentP50Ms: 2, variantP50Ms: 1.3, ratio: 0.65 }],
    },
    sourceBytes: 400_000,
    variantBytes: 120_000,
  }
}

describe('compress', () => {
  it.each([
    [true, 0],
    [false, 1],
  ])('follows the job to its end; admitted %j gives exit code %d', async (admitted, code) => {
    const gateway = await gatewayOf({
      'POST /admin/compress': { ...job, state: 'queued' },
      'GET /admin/jobs/j1/events': event('progress', job) + event('progress', { ...succeeded, result: undefined }) + event('done', succeeded),
      'GET /admin/variants/digits:1:int8': { id: 'digits:1:int8', fidelity: { score: 0.99 } },
      'GET /admin/variants/digits:1:int8/report': report(admitted),
    })
    const { lines, terminal } = recorder()
    expect(await compress(terminal, gateway, 'digits', { recipe: 'int8' })).toBe(code)
    expect(lines[0]).toEqual({ job: 'j1', state: 'running', fraction: 0.5, step: 'calibrating' })
    expect(lines.at(-1)).toMatchObject({ variant: { id: 'digits:1:int8' }, report: { gate: { admitted } } })
  })

  it('shows a variant that exists already without a job', async () => {
    const gateway = await gatewayOf({
      'POST /admin/compress': { id: 'digits:1:int8', fidelity: { score: 0.99 } },
      'GET /admin/variants/digits:1:int8': { id: 'digits:1:int8', fidelity: { score: 0.99 } },
      'GET /admin/variants/digits:1:int8/report': report(true),
    })
    const { lines, terminal } = recorder()
    expect(await compress(terminal, gateway, 'digits', { recipe: 'int8' })).toBe(0)
    expect(lines).toHaveLength(1)
  })
})

describe('followJob', () => {
  it('fails with the code and reason of the job', async () => {
    const failed = { ...job, state: 'failed', error: { code: 'invalid_recipe', detail: 'there is no pass int9' } }
    const gateway = await gatewayOf({ 'GET /admin/jobs/j1/events': event('done', failed) })
    await expect(followJob(recorder().terminal, gateway, 'j1')).rejects.toMatchObject({ code: 'invalid_recipe', message: 'there is no pass int9' })
  })

  it('says so when somebody cancelled it', async () => {
    const gateway = await gatewayOf({ 'GET /admin/jobs/j1/events': event('done', { ...job, state: 'cancelled' }) })
    await expect(followJob(recorder().terminal, gateway, 'j1')).rejects.toMatchObject({ code: 'cancelled' })
  })

  it('asks for the outcome when the stream breaks off before the end', async () => {
    const gateway = await gatewayOf({ 'GET /admin/jobs/j1/events': event('progress', job), 'GET /admin/jobs/j1': succeeded })
    expect(await followJob(recorder().terminal, gateway, 'j1')).toMatchObject({ state: 'succeeded' })
  })
})

describe('reportLines', () => {
  it('tells verdict, fidelity, accuracy, latency ratio and why nodes were left alone', () => {
    const text = reportLines(report(false), (_style, plain) => plain).join('\n')
    expect(text).toContain('rejected: slower at batch 1')
    expect(text).toContain('0.9912 over 256 samples')
    expect(text).toContain('98.00 % of labels, source 98.50 %')
    expect(text).toMatch(/1 +2\.00 +1\.30 +0\.65×/)
    expect(text).toContain('2 × Relu: a lone Relu does not fuse')
  })

  it('says which rows it was judged on, and why labels were of no use', () => {
    const told = (more: Partial<DecisionReport['fidelity']>) => {
      const { fidelity, ...rest } = report(true)
      return reportLines({ ...rest, fidelity: { ...fidelity, ...more } }, (_style, plain) => plain).join('\n')
    }
    expect(told({ heldOut: true, calibrationSamples: 300 })).toContain('over 256 held-out samples; 300 others were there to calibrate on')
    expect(told({ heldOut: false, calibrationSamples: 256 })).toContain('256 samples, the same that were there to calibrate on')
    expect(told({ synthetic: true, heldOut: false })).toMatch(/256 samples, on noise(?!.*calibrate)/)
    expect(told({ labelsUnused: 'a label is 12, but output "y" has classes 0 to 9' })).toContain('although there are labels: a label is 12')
  })

  it('lists integer kernels, and the nodes that compute in float after all', () => {
    const text = reportLines(
      { ...report(true), kernels: { counts: { QLinearConv: 2 }, integer: ['conv1', 'conv2'], fellBack: ['fc'] } },
      (_style, plain) => plain,
    )
    expect(text).toContain('kernels   2 QLinearConv')
    expect(text.join('\n')).toContain('in float after all: fc')
  })
})
