import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { status, type ServiceError } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { dtypes, type DType } from '#flyweight/tensor/tensor.js'
import { startGateway, type TestGateway } from '../http/gateway.js'
import { connect, detailsOf, type Message, type TestClient } from './client.js'
import { samples } from './samples.js'

let gateway: TestGateway
let client: TestClient
beforeAll(async () => {
  gateway = await startGateway({ server: { grpcPort: 0, maxBodyBytes: 2 ** 16 } })
  await gateway.listen()
  client = connect(gateway.grpcPort()!)
}, 60_000)
afterAll(async () => {
  client.close()
  await gateway.stop()
})

const floats = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer)
const floatsOf = (bytes: Buffer): number[] => [...new Float32Array(new Uint8Array(bytes).buffer)]
const scale = (rows: number, extra: Message = {}): Message => ({
  model_name: 'scale',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [rows, 4] }],
  raw_input_contents: [floats(...Array.from({ length: rows * 4 }, (_, i) => i))],
  ...extra,
})
const failure = (promise: Promise<unknown>): Promise<ServiceError> =>
  promise.then(
    () => expect.fail('the call was answered'),
    (error: unknown) => error as ServiceError,
  )

describe('server and models', () => {
  it('is alive and ready, and says what it is', async () => {
    expect(await client.call('ServerLive', {})).toEqual({ live: true })
    expect(await client.call('ServerReady', {})).toEqual({ ready: true })
    expect(await client.call('ServerMetadata', {})).toMatchObject({ name: 'flyweight', extensions: expect.arrayContaining(['model_repository']) as string[] })
  })

  it('says which models are ready', async () => {
    expect(await client.call('ModelReady', { name: 'scale' })).toEqual({ ready: true })
    expect(await client.call('ModelReady', { name: 'scale', version: '1' })).toEqual({ ready: true })
    expect(await client.call('ModelReady', { name: 'scale', version: '7' })).toEqual({ ready: false })
    expect(await client.call('ModelReady', { name: 'none' })).toEqual({ ready: false })
  })

  it('describes a model as the REST door does', async () => {
    const metadata = await client.call('ModelMetadata', { name: 'scale' })
    expect(metadata).toEqual({
      name: 'scale',
      versions: ['1'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'x', datatype: 'FP32', shape: ['-1', '4'] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: ['-1', '4'] }],
    })
    const { config } = await client.call('ModelConfig', { name: 'scale' })
    const rest = (await gateway.server.inject('/v2/models/scale/config')).json<Message>()
    const numbers = (entries: Message[]) => entries.map((entry) => ({ ...entry, dims: entry.dims.map(Number) }))
    expect({ ...config, input: numbers(config.input), output: numbers(config.output) }).toEqual(rest)
  })

  it('gives statistics of one model and of all', async () => {
    await client.call('ModelInfer', scale(2))
    const { model_stats } = await client.call('ModelStatistics', { name: 'scale' })
    expect(model_stats).toHaveLength(1)
    expect(Number(model_stats[0].inference_count)).toBeGreaterThanOrEqual(2)
    expect(Number(model_stats[0].inference_stats.success.ns)).toBeGreaterThan(0)
    const all = await client.call('ModelStatistics', {})
    expect(all.model_stats.map(({ name }: Message) => name)).toContain('scale')
  })

  it('lists, unloads and loads models', async () => {
    const states = async (ready = false) =>
      Object.fromEntries<string>((await client.call('RepositoryIndex', { ready }))['models'].map(({ name, state }: Message) => [name, state]))
    expect(await states()).toMatchObject({ scale: 'READY', text: 'READY' })
    await client.call('RepositoryModelUnload', { model_name: 'tokens' })
    expect(await states()).toMatchObject({ tokens: 'UNAVAILABLE' })
    expect(Object.keys(await states(true))).not.toContain('tokens')
    await client.call('RepositoryModelLoad', { model_name: 'tokens' })
    expect(await states(true)).toMatchObject({ tokens: 'READY' })
    expect((await failure(client.call('RepositoryModelLoad', { model_name: 'none' }))).code).toBe(status.NOT_FOUND)
    expect((await failure(client.call('RepositoryIndex', { repository_name: 'other' }))).code).toBe(status.NOT_FOUND)
  })
})

describe('ModelInfer', () => {
  const names = Object.keys(samples) as DType[]
  const inputs = (contents: (dtype: DType) => Message) => names.map((dtype) => ({ name: dtype, datatype: dtypes[dtype].v2, shape: [1, 2], ...contents(dtype) }))
  const outputs = names.map((dtype) => ({ name: `${dtype}_out` }))
  const expectAll = ({ outputs: answered, raw_output_contents: raw }: Message) => {
    expect(answered.map(({ datatype, shape }: Message) => [datatype, ...shape])).toEqual(names.map((dtype) => [dtypes[dtype].v2, '1', '2']))
    expect(raw.map((bytes: Buffer) => bytes.toString('hex'))).toEqual(names.map((dtype) => Buffer.from(samples[dtype]!.raw).toString('hex')))
  }

  it('carries every datatype raw', async () => {
    expectAll(
      await client.call('ModelInfer', {
        model_name: 'types',
        inputs: inputs(() => ({})),
        outputs,
        raw_input_contents: names.map((dtype) => samples[dtype]!.raw),
      }),
    )
  })

  it.each([
    ['tokens', 'int64', 'ids', [1, 2]],
    ['text', 'string', 't', [2]],
  ] as const)('takes typed contents: %s', async (name, dtype, input, shape) => {
    const { values, raw, field } = samples[dtype]!
    const contents = { [field!]: values }
    const answer = await client.call('ModelInfer', { model_name: name, inputs: [{ name: input, datatype: dtypes[dtype].v2, shape, contents }] })
    expect(answer['raw_output_contents'][0].equals(raw)).toBe(true)
  })

  it('answers with the id, the variant and the raw outputs', async () => {
    const answer = await client.call('ModelInfer', scale(2, { id: 'mine', parameters: { min_fidelity: { double_param: 0.5 }, priority: { int64_param: 3 } } }))
    expect(answer).toMatchObject({
      model_name: 'scale',
      model_version: '1',
      id: 'mine',
      parameters: { variant: { string_param: 'fp32' }, fidelity: { double_param: 1 }, deadline_met: { bool_param: true } },
      outputs: [{ name: 'y', datatype: 'FP32', shape: ['2', '4'], contents: null }],
    })
    expect(floatsOf(answer.raw_output_contents[0])).toEqual([0, 2, 4, 6, 8, 10, 12, 14])
  })

  it('classifies', async () => {
    const answer = await client.call('ModelInfer', scale(1, { outputs: [{ name: 'y', parameters: { classification: { int64_param: 2 } } }] }))
    expect(answer.outputs).toMatchObject([{ datatype: 'BYTES', shape: ['1', '2'] }])
    expect(answer.raw_output_contents[0].toString('latin1')).toContain('6.000000:3:west')
  })

  const refusals: [string, Message, number, string, string][] = [
    ['an unknown model', { model_name: 'none', raw_input_contents: [floats(1)] }, status.NOT_FOUND, 'model_not_found', 'there is no model none'],
    ['an unknown variant', { parameters: { variant: { string_param: 'int3' } } }, status.NOT_FOUND, 'variant_not_found', 'no variant "int3"'],
    ['an unknown parameter', { parameters: { sla: { int64_param: 1 } } }, status.INVALID_ARGUMENT, 'unknown_field', '/parameters/sla is not a field here'],
    ['a parameter out of range', { parameters: { min_fidelity: { double_param: 2 } } }, status.INVALID_ARGUMENT, 'malformed', '/parameters/min_fidelity is 2'],
    ['an unknown output', { outputs: [{ name: 'z' }] }, status.INVALID_ARGUMENT, 'invalid_input', '/outputs/0/name names the output "z", expected "y"'],
    ['too few bytes', { raw_input_contents: [floats(1)] }, status.INVALID_ARGUMENT, 'invalid_input', '/raw_input_contents/0 has 4 bytes, expected 16'],
    [
      'raw contents for some inputs',
      { raw_input_contents: [floats(1), floats(1)] },
      status.INVALID_ARGUMENT,
      'invalid_input',
      'expected one for each of the 1',
    ],
    [
      'raw and typed contents together',
      { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], contents: { fp32_contents: [1, 2, 3, 4] } }] },
      status.INVALID_ARGUMENT,
      'invalid_input',
      '/inputs/0/contents is there beside raw_input_contents',
    ],
    [
      'contents of another datatype',
      { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], contents: { fp64_contents: [1, 2, 3, 4] } }], raw_input_contents: [] },
      status.INVALID_ARGUMENT,
      'invalid_input',
      '/inputs/0/contents/fp64_contents is there, expected fp32_contents for FP32',
    ],
    [
      'contents that are too short',
      { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4] }], raw_input_contents: [] },
      status.INVALID_ARGUMENT,
      'invalid_input',
      '/inputs/0/contents/fp32_contents has 0 elements, expected 4',
    ],
    ['another datatype', { inputs: [{ name: 'x', datatype: 'FP64', shape: [1, 4] }] }, status.INVALID_ARGUMENT, 'invalid_input', 'came as "FP64"'],
    ['another shape', { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 5] }] }, status.INVALID_ARGUMENT, 'invalid_input', 'came with shape [1, 5]'],
    [
      'parameters of an input',
      { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], parameters: { shared_memory_region: { string_param: 'r' } } }] },
      status.INVALID_ARGUMENT,
      'unknown_field',
      '/inputs/0/parameters/shared_memory_region',
    ],
  ]
  it.each(refusals)('refuses %s, saying what was expected', async (_, change, code, name, text) => {
    const error = await failure(client.call('ModelInfer', scale(1, change)))
    expect(error.details).toContain(text)
    expect([error.code, error.metadata.get('flyweight-code')[0]]).toEqual([code, name])
    const { ErrorInfo } = detailsOf(error)
    expect(ErrorInfo).toEqual({ reason: name, domain: 'flyweight' })
  })

  it('names the fields at fault in the details', async () => {
    const error = await failure(client.call('ModelInfer', scale(1, { inputs: [{ name: 'x', datatype: 'FP64', shape: [1, 4] }] })))
    expect(detailsOf(error)['BadRequest']).toEqual({ field_violations: [{ field: '/inputs/0/datatype', description: 'came as "FP64", expected FP32' }] })
  })

  it('refuses a message that is too large', async () => {
    const error = await failure(client.call('ModelInfer', scale(5000)))
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED)
  })
})

it('answers the example of the documents', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['examples/grpc.mjs', '--address', `127.0.0.1:${gateway.grpcPort()}`])
  // The digit in the example is a seven.
  expect(stdout).toMatch(/^\S+ says -?[\d.]+:7/)
  expect(stdout).toContain('the stream answered picture 0, picture 1')
})

describe('ModelStreamInfer', () => {
  it('answers in order, errors too, and ends when the client has ended', async () => {
    const stream = client.stream()
    const answers: Message[] = []
    stream.on('data', (answer: Message) => answers.push(answer))
    const ended = new Promise((resolve, reject) => stream.on('end', resolve).on('error', reject))
    for (let i = 0; i < 100; i++) stream.write(i % 10 === 3 ? scale(1, { id: String(i), model_name: 'none' }) : scale(1 + (i % 3), { id: String(i) }))
    stream.end()
    await ended
    expect(answers.map(({ infer_response }) => infer_response.id)).toEqual(Array.from({ length: 100 }, (_, i) => String(i)))
    for (const [i, { error_message, infer_response }] of answers.entries()) {
      expect(error_message).toBe(i % 10 === 3 ? 'there is no model none' : '')
      if (i % 10 !== 3) expect(floatsOf(infer_response.raw_output_contents[0])).toHaveLength(4 * (1 + (i % 3)))
    }
  })
})

describe('deadlines and cancellation', () => {
  it('hands the deadline of a call to the request, unless a sooner one is asked for', async () => {
    const infer = vi.spyOn(gateway.gateway, 'infer')
    try {
      await client.call('ModelInfer', scale(1), { deadline: Date.now() + 60_000 })
      await client.call('ModelInfer', scale(1, { parameters: { sla_ms: { int64_param: 5000 } } }), { deadline: Date.now() + 60_000 })
      await client.call('ModelInfer', scale(1))
      const [first, second, third] = infer.mock.calls.map(([{ sla }]) => sla.latencyMs)
      expect(first).toBeGreaterThan(5000)
      expect(first).toBeLessThanOrEqual(60_000)
      expect([second, third]).toEqual([5000, undefined])
    } finally {
      infer.mockRestore()
    }
  })

  it.each([
    ['its deadline passes', status.DEADLINE_EXCEEDED, { deadline: 200 }],
    ['the client cancels', status.CANCELLED, {}],
  ])('aborts a request when %s', async (_, code, { deadline }: { deadline?: number }) => {
    let see = () => {}
    const seen = new Promise<void>((resolve) => (see = resolve))
    const aborted = new Promise<void>((resolve) => {
      vi.spyOn(gateway.gateway, 'infer').mockImplementationOnce(({ signal }) => {
        signal.addEventListener('abort', () => resolve())
        see()
        return new Promise(() => {})
      })
    })
    let cancel = () => {}
    const answer = failure(
      client.call('ModelInfer', scale(1), { ...(deadline !== undefined && { deadline: Date.now() + deadline }), started: (how) => (cancel = how) }),
    )
    if (deadline === undefined) {
      await seen
      cancel()
    }
    expect((await answer).code).toBe(code)
    await aborted
  })

  it('says UNAVAILABLE while draining', async () => {
    const { FlyweightError } = await import('#flyweight/errors.js')
    const infer = vi.spyOn(gateway.gateway, 'infer').mockRejectedValueOnce(new FlyweightError('draining', 'the gateway is shutting down', { retryAfterS: 5 }))
    const error = await failure(client.call('ModelInfer', scale(1)))
    infer.mockRestore()
    expect(error.code).toBe(status.UNAVAILABLE)
    expect(detailsOf(error)['RetryInfo']).toMatchObject({ retry_delay: { seconds: '5' } })
  })
})
