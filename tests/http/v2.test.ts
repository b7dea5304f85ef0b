// The Open Inference Protocol v2, spoken as Triton's own clients speak it: odd or no content types,
// binary tensors after the JSON, ids that come back.
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '#flyweight/http/problem.js'
import { dtypes, type Tensor } from '#flyweight/tensor/tensor.js'
import { rawBytes } from '#flyweight/wire/binary.js'
import { carried, startGateway, type TestGateway } from './gateway.js'

interface Answer {
  id?: string
  model_name: string
  model_version: string
  parameters: Record<string, unknown>
  outputs: { name: string; shape: number[]; datatype: string; data?: unknown[]; parameters?: { binary_data_size: number } }[]
}

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway()))
afterAll(() => gateway.stop())

const get = async (url: string) => (await gateway.server.inject(url)).json<Record<string, unknown>>()
const infer = (model: string, payload: string | object, headers: Record<string, string> = {}) =>
  gateway.server.inject({
    method: 'POST',
    url: `/v2/models/${model}/infer`,
    headers,
    payload: Buffer.isBuffer(payload) || typeof payload === 'string' ? payload : JSON.stringify(payload),
  })

const row = { name: 'x', shape: [1, 4], datatype: 'FP32', data: [1, 2, 3, 4] }

/** A body of the binary extension. */
function binary(document: object, ...raw: Buffer[]): { payload: Buffer; headers: Record<string, string> } {
  const json = Buffer.from(JSON.stringify(document))
  return {
    payload: Buffer.concat([json, ...raw]),
    headers: { 'inference-header-content-length': String(json.byteLength), 'content-type': 'application/octet-stream' },
  }
}

function split(response: { headers: Record<string, unknown>; rawPayload: Buffer }): { answer: Answer; raw: Record<string, Buffer> } {
  const length = Number(response.headers['inference-header-content-length'])
  const answer = JSON.parse(response.rawPayload.subarray(0, length).toString()) as Answer
  let offset = length
  const raw: Record<string, Buffer> = {}
  for (const { name, parameters } of answer.outputs) {
    const size = parameters?.binary_data_size
    if (size !== undefined) raw[name] = response.rawPayload.subarray(offset, (offset += size))
  }
  expect(offset).toBe(response.rawPayload.byteLength)
  return { answer, raw }
}

const values: Record<string, Tensor['data']> = {
  float32: Float32Array.of(0.1, NaN),
  float64: Float64Array.of(0.1, -Infinity),
  float16: Uint16Array.of(0x3800, 0x7bff),
  uint8: Uint8Array.of(0, 255),
  int8: Int8Array.of(-128, 127),
  uint16: Uint16Array.of(0, 65535),
  int16: Int16Array.of(-32768, 32767),
  uint32: Uint32Array.of(0, 2 ** 32 - 1),
  int32: Int32Array.of(-(2 ** 31), 2 ** 31 - 1),
  uint64: BigUint64Array.of(2n ** 53n + 1n, 2n ** 64n - 1n),
  int64: BigInt64Array.of(-(2n ** 63n), 2n ** 53n + 1n),
  bool: Uint8Array.of(1, 0),
  string: ['é', ''],
}
const allRaw = carried.map((dtype) => rawBytes({ dtype, dims: [1, 2], data: values[dtype]! }))
const allInputs = carried.map((dtype, index) => ({
  name: dtype,
  shape: [1, 2],
  datatype: dtypes[dtype].v2,
  parameters: { binary_data_size: allRaw[index]!.byteLength },
}))

describe('v2 metadata', () => {
  it('names the server and its extensions', async () => {
    expect(await get('/v2')).toMatchObject({
      name: 'flyweight',
      extensions: expect.arrayContaining(['binary_tensor_data', 'classification', 'statistics']) as unknown,
    })
    expect(await get('/v2/health/live')).toEqual({ live: true })
    expect(await get('/v2/health/ready')).toEqual({ ready: true })
  })

  it('describes a model, with and without its version', async () => {
    const metadata = {
      name: 'scale',
      versions: ['1'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 4] }],
    }
    expect(await get('/v2/models/scale')).toEqual(metadata)
    expect(await get('/v2/models/scale/versions/1')).toEqual(metadata)
    expect(await get('/v2/models/scale/ready')).toEqual({ name: 'scale', version: '1', ready: true })
    expect(await get('/v2/models/scale/versions/1/config')).toMatchObject({
      max_batch_size: 32,
      input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [4] }],
    })
  })

  it('says 404 with an error for a model or version that is not there', async () => {
    for (const url of ['/v2/models/nope', '/v2/models/scale/versions/7', '/v2/models/nope/ready', '/v2/models/nope/stats']) {
      const response = await gateway.server.inject(url)
      expect(response.statusCode).toBe(404)
      expect(typeof response.json<Problem>().error).toBe('string')
    }
  })
})

describe('v2 inference', () => {
  it('echoes the id and answers in JSON, whatever the content type says', async () => {
    for (const type of [undefined, 'application/json', 'application/x-www-form-urlencoded', 'text/plain', 'banana']) {
      const response = await infer('scale', { id: 'a-7', inputs: [row] }, type === undefined ? {} : { 'content-type': type })
      expect(response.statusCode, response.body).toBe(200)
      expect(response.headers['inference-header-content-length']).toBeUndefined()
      expect(response.json<Answer>()).toEqual({
        model_name: 'scale',
        model_version: '1',
        id: 'a-7',
        parameters: { variant: 'fp32', fidelity: 1, deadline_met: true },
        outputs: [{ name: 'y', shape: [1, 4], datatype: 'FP32', data: [2, 4, 6, 8] }],
      })
    }
  })

  it('reads nested data, a version in the path and the SLA in parameters', async () => {
    const response = await gateway.server.inject({
      method: 'POST',
      url: '/v2/models/scale/versions/1/infer',
      payload: JSON.stringify({
        parameters: { sla_ms: 10_000, min_fidelity: 0.5, priority: 3, on_miss: 'degrade', variant: 'fp32' },
        inputs: [{ ...row, data: [[1, 2, 3, 4]] }],
      }),
    })
    expect(response.json<Answer>().outputs[0]?.data).toEqual([2, 4, 6, 8])
  })

  it('carries every dtype as raw bytes, both ways', async () => {
    const { payload, headers } = binary({ inputs: allInputs, parameters: { binary_data_output: true } }, ...allRaw)
    const response = await infer('types', payload, headers)
    expect(response.statusCode, response.body).toBe(200)
    expect(response.headers['content-type']).toBe('application/octet-stream')
    const { raw } = split(response)
    for (const [index, dtype] of carried.entries()) expect(raw[`${dtype}_out`], dtype).toEqual(allRaw[index])
  })

  it('reads int64 in JSON without loss', async () => {
    const body = '{"inputs":[{"name":"ids","shape":[1,3],"datatype":"INT64","data":[9007199254740993,-9223372036854775808,7]}]}'
    const response = await infer('tokens', body)
    expect(response.body).toContain('"data":[9007199254740993,-9223372036854775808,7]')
  })

  it('mixes JSON and binary inputs and outputs as each says', async () => {
    const json = (dtype: string) => JSON.parse(dtype === 'bool' ? '[true,false]' : '["é",""]') as unknown[]
    const inputs = allInputs.map((input) =>
      input.name === 'bool' || input.name === 'string' ? { name: input.name, shape: input.shape, datatype: input.datatype, data: json(input.name) } : input,
    )
    const raw = allRaw.filter((_, index) => !['bool', 'string'].includes(carried[index]!))
    const outputs = [
      { name: 'bool_out' },
      { name: 'float16_out', parameters: { binary_data: true } },
      { name: 'string_out', parameters: { binary_data: false } },
    ]
    const { payload, headers } = binary({ inputs, outputs }, ...raw)
    const { answer, raw: answered } = split(await infer('types', payload, headers))
    expect(answer.outputs.map(({ name, data }) => [name, data])).toEqual([
      ['bool_out', [true, false]],
      ['float16_out', undefined],
      ['string_out', ['é', '']],
    ])
    expect(answered['float16_out']).toEqual(allRaw[carried.indexOf('float16')])
  })

  it('takes the whole body as the one input with a header of 0, and answers in binary', async () => {
    const response = await infer('scale', Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8).buffer), { 'inference-header-content-length': '0' })
    const { answer, raw } = split(response)
    expect(answer.outputs[0]).toMatchObject({ shape: [2, 4], parameters: { binary_data_size: 32 } })
    expect(raw['y']?.readFloatLE(28)).toBe(16)
  })

  it('counts the header in uncompressed bytes', async () => {
    const { payload, headers } = binary(
      { inputs: [{ ...row, data: undefined, parameters: { binary_data_size: 16 } }] },
      Buffer.from(Float32Array.of(1, 2, 3, 4).buffer),
    )
    const response = await infer('scale', gzipSync(payload), { ...headers, 'content-encoding': 'gzip' })
    expect(response.json<Answer>().outputs[0]?.data).toEqual([2, 4, 6, 8])
  })

  it('classifies with labels, the highest first', async () => {
    const rows = { name: 'x', shape: [2, 4], datatype: 'FP32', data: [0.5, 3, -1, 2, 9, 0, 0, 1] }
    const response = await infer('scale', { inputs: [rows], outputs: [{ name: 'y', parameters: { classification: 2 } }] })
    expect(response.json<Answer>().outputs).toEqual([
      { name: 'y', shape: [2, 2], datatype: 'BYTES', data: ['6.000000:1:east', '4.000000:3:west', '18.000000:0:north', '2.000000:3:west'] },
    ])
    const many = await infer('scale', { inputs: [row], outputs: [{ name: 'y', parameters: { classification: 100, binary_data: true } }] })
    expect(split(many).answer.outputs[0]?.shape).toEqual([1, 4])
  })

  it.each<[string, string, string | object, Record<string, string>, string, RegExp]>([
    ['a wrong datatype', 'scale', { inputs: [{ ...row, datatype: 'INT32' }] }, {}, '/inputs/0/datatype', /"INT32", expected FP32/],
    ['a wrong shape', 'scale', { inputs: [{ ...row, shape: [4] }] }, {}, '/inputs/0/shape', /\[4\], expected \[n, 4\]/],
    ['a missing input', 'scale', { inputs: [] }, {}, '/inputs/x', /is missing/],
    ['an input given twice', 'scale', { inputs: [row, row] }, {}, '/inputs/1', /second time/],
    ['an unknown input', 'scale', { inputs: [row, { ...row, name: 'z' }] }, {}, '/inputs/1', /"z", expected "x"/],
    ['an unknown output', 'scale', { inputs: [row], outputs: [{ name: 'q' }] }, {}, '/outputs/0/name', /"q", expected "y"/],
    ['an unknown parameter', 'scale', { inputs: [row], parameters: { sequence_id: 1 } }, {}, '/parameters/sequence_id', /not a field here/],
    [
      'shared memory',
      'scale',
      { inputs: [{ ...row, parameters: { shared_memory_region: 'r' } }] },
      {},
      '/inputs/0/parameters/shared_memory_region',
      /not a field/,
    ],
    ['no data', 'scale', { inputs: [{ ...row, data: undefined }] }, {}, '/inputs/0/data', /is missing/],
    ['data and a binary size', 'scale', { inputs: [{ ...row, parameters: { binary_data_size: 0 } }] }, {}, '/inputs/0/data', /one of the two/],
    [
      'a binary size beyond the body',
      'scale',
      { inputs: [{ ...row, data: undefined, parameters: { binary_data_size: 16 } }] },
      {},
      '/inputs/0/parameters/binary_data_size',
      /only 0 bytes are left/,
    ],
    [
      'a header longer than the body',
      'scale',
      { inputs: [row] },
      { 'inference-header-content-length': '9999' },
      '/headers/inference-header-content-length',
      /at most/,
    ],
    ['a raw size that does not fit', 'scale', 'abc', { 'inference-header-content-length': '0' }, '', /multiple of 16/],
    ['a raw request for many inputs', 'types', 'abc', { 'inference-header-content-length': '0' }, '', /the model has 13/],
    [
      'half floats in JSON',
      'types',
      { inputs: [{ name: 'float16', shape: [1, 2], datatype: 'FP16', data: [1, 2] }] },
      {},
      '/inputs/0/data',
      /must be sent as binary/,
    ],
    [
      'a classification of strings',
      'text',
      { inputs: [{ name: 't', shape: [1], datatype: 'BYTES', data: ['a'] }], outputs: [{ name: 'u', parameters: { classification: 1 } }] },
      {},
      '/outputs/0/parameters/classification',
      /strings/,
    ],
    ['what is not JSON', 'scale', 'inputs=x', {}, '', /not valid JSON/],
  ])('refuses %s with 400', async (_name, model, payload, headers, pointer, detail) => {
    const response = await infer(model, payload, headers)
    const problem = response.json<Problem>()
    expect([response.statusCode, problem.status], problem.detail).toEqual([400, 400])
    expect(problem.errors?.find((error) => error.pointer === pointer)?.detail ?? problem.error).toMatch(detail)
  })

  it('refuses half floats as JSON outputs before it runs anything', async () => {
    const { payload, headers } = binary({ inputs: allInputs }, ...allRaw)
    const response = await infer('types', payload, headers)
    expect([response.statusCode, response.json<Problem>().errors?.[0]?.detail]).toEqual([
      400,
      'is FP16, which JSON does not carry: ask for it with binary_data',
    ])
  })

  it('refuses bytes that no input claims', async () => {
    const { payload, headers } = binary({ inputs: [row] }, Buffer.alloc(3))
    expect((await infer('scale', payload, headers)).json<Problem>().error).toMatch(/3 bytes after the JSON that no input claims/)
  })
})

describe('v2 statistics and repository', () => {
  it('count what ran', async () => {
    await infer('text', { inputs: [{ name: 't', shape: [2], datatype: 'BYTES', data: ['a', 'b'] }] })
    const { model_stats: all } = (await get('/v2/models/stats')) as { model_stats: { name: string }[] }
    expect(all.map(({ name }) => name)).toContain('text')
    const { model_stats: one } = await get('/v2/models/text/versions/1/stats')
    expect(one).toMatchObject([
      { name: 'text', version: '1', inference_count: expect.any(Number) as number, inference_stats: { success: { count: expect.any(Number) as number } } },
    ])
  })

  it('take an answer for a request, as the next step of a chain gets it', async () => {
    const first = await infer('scale', { id: 'a', inputs: [row] })
    const { outputs } = first.json<Answer>()
    const names = { y: 'x' } as Record<string, string>
    const renamed = { ...first.json<Answer>(), outputs: outputs.map((output) => ({ ...output, name: names[output.name] ?? output.name })) }
    const [second, asked] = [await infer('scale', renamed), await infer('scale', { id: 'a', inputs: renamed.outputs })]
    expect(second.statusCode).toBe(200)
    expect(second.json()).toEqual(asked.json())
    // Without model_name it is no answer, but a request that lacks its inputs.
    const refused = await infer('scale', { outputs: renamed.outputs })
    expect(refused.json<Problem>().errors?.map(({ pointer }) => pointer)).toContain('/inputs')
  })

  it('list, unload and load models', async () => {
    const call = (url: string, payload?: object) => gateway.server.inject({ method: 'POST', url, ...(payload && { payload: JSON.stringify(payload) }) })
    const states = async (ready?: boolean) =>
      (await call('/v2/repository/index', ready === undefined ? undefined : { ready }))
        .json<{ name: string; state: string }[]>()
        .map(({ name, state }) => `${name} ${state}`)
    expect(await states()).toEqual(expect.arrayContaining(['scale READY', 'text READY']))
    expect((await call('/v2/repository/models/text/unload', { parameters: { unload_dependents: false } })).statusCode).toBe(200)
    expect(await states()).toContain('text UNAVAILABLE')
    expect(await states(true)).not.toContain('text UNAVAILABLE')
    const refused = await infer('text', { inputs: [] })
    expect([refused.statusCode, refused.json<Problem>().code]).toEqual([503, 'model_not_ready'])
    expect((await call('/v2/repository/models/text/load', {})).statusCode).toBe(200)
    expect(await states(true)).toContain('text READY')
    expect((await call('/v2/repository/models/nope/load')).statusCode).toBe(404)
    expect((await call('/v2/repository/models/text/load', { parameters: { config: '{}' } })).json<Problem>().errors?.[0]?.pointer).toBe('/parameters/config')
  })
})
