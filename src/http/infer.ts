// POST /infer, the simple door: decode, hand over to the gateway, encode. Routing, batching and
// waiting are the gateway's; what a tensor looks like on the wire is src/wire's.
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import type { InferResult } from '../serving/request.js'
import type { Tensor } from '../tensor/tensor.js'
import { answer, binaryMedia, component, failures, INFERENCE_FAILURES, strict } from './answers.js'
import { bodyOf, clientSignal } from './body.js'
import { pointerToken } from '../wire/describe.js'
import { InferBody, inferAnswerExample, InferRequest, inferRequestExample } from './infer-schema.js'
import type { Scope, Services } from './services.js'
import { bytesPass } from './validation.js'
import { checkOf } from '../wire/check.js'
import { HEADER_LENGTH, rawBytes } from '../wire/binary.js'
import { parseJson, readJsonInput } from '../wire/json-read.js'
import { jsonArray, jsonBase64 } from '../wire/json-write.js'
import { releaseWhenSent, sendParts } from './parts.js'
import { checkOutputs, decodeAll } from '../wire/signature.js'

const checkBody = checkOf(InferBody)

const schema = {
  operationId: 'infer',
  tags: ['inference'],
  summary: 'Run a model on some inputs within a latency SLA',
  description:
    'The gateway picks the variant: the most faithful one that meets the deadline, under the fidelity asked for. ' +
    'With `Accept: application/octet-stream` the answer is its JSON (outputs with `binary_data_size` in place of `data`) followed by the raw ' +
    'little-endian outputs in the listed order; the header `Inference-Header-Content-Length` gives the length of the JSON. ' +
    'Headers of the answer: `Server-Timing` (decode, queue, infer, encode), `X-Flyweight-Variant`, `X-Request-Id`.',
  querystring: Type.Object({ explain: Type.Optional(Type.Boolean({ description: 'Lists every variant and why it was or was not chosen' })) }, strict),
  body: Type.Unsafe<Buffer>({ ...InferRequest, examples: [inferRequestExample] }),
  response: {
    200: answer('The outputs, which variant made them and why', component('InferAnswer'), inferAnswerExample, binaryMedia),
    ...failures('invalid_input', ...INFERENCE_FAILURES),
  },
}

/** The scope takes bodies as bytes: they are parsed here, where the model is known. */
export function inferRoutes(scope: Scope, { gateway, repository, config }: Services): void {
  const { maxBodyBytes } = config.server
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/json', { parseAs: 'buffer', bodyLimit: maxBodyBytes }, (_request, body, done) => done(null, body))
  scope.post('/infer', { schema, bodyLimit: maxBodyBytes, validatorCompiler: bytesPass }, async (request, reply) => {
    const started = performance.now()
    const body = parseJson(await bodyOf(request, maxBodyBytes))
    checkBody(body.value)
    const { model: name, version, inputs, outputs, sla, variant, encoding } = body.value as InferBody
    const model = repository.resolve(name, version)
    const tensors = decodeAll(
      model.signature,
      Object.entries(inputs).map(([key, source]) => ({ name: key, pointer: `/inputs/${pointerToken(key)}`, source: { key, value: source } })),
      (spec, { key, value }, pointer) => readJsonInput(spec, value, { body, key, pointer }),
    )
    if (outputs) checkOutputs(model.signature, outputs, (index) => `/outputs/${index}`)
    const decodeMs = performance.now() - started
    const result = await gateway.infer({
      id: request.id,
      model: name,
      version: model.version,
      inputs: tensors,
      ...(outputs && { outputs }),
      sla: sla ?? {},
      ...(variant !== undefined && { variant }),
      ...(request.query.explain === true && { explain: true }),
      signal: clientSignal(reply),
      arrivedAt: request.arrivedAt,
    })
    releaseWhenSent(reply, result)
    const binary = request.headers.accept?.includes('application/octet-stream') === true
    return send(reply, result, { decodeMs, form: binary ? 'binary' : (encoding ?? 'json') })
  })
}

function send(reply: FastifyReply, result: InferResult, { decodeMs, form }: { decodeMs: number; form: 'json' | 'base64' | 'binary' }): FastifyReply {
  const started = performance.now()
  const outputs = Object.entries(result.outputs)
  const raw = form === 'binary' ? outputs.map(([, tensor]) => rawBytes(tensor)) : []
  const text = answerText(
    result,
    outputs.map(([name, tensor], index) => `${JSON.stringify(name)}:${tensorText(tensor, form, raw[index])}`),
  )
  const encodeMs = performance.now() - started
  const { queueMs, inferMs } = result.timing
  reply.header('x-flyweight-variant', result.variant).header('server-timing', serverTiming({ decodeMs, queueMs, inferMs, encodeMs }))
  if (form !== 'binary') return reply.type('application/json; charset=utf-8').send(text)
  const head = Buffer.from(text)
  return sendParts(reply.header(HEADER_LENGTH, head.byteLength).type('application/octet-stream'), [head, ...raw])
}

function tensorText(tensor: Tensor, form: 'json' | 'base64' | 'binary', raw: Buffer | undefined): string {
  const head = `{"shape":[${tensor.dims.join(',')}],"dtype":"${tensor.dtype}",`
  if (form === 'binary') return `${head}"binary_data_size":${raw?.byteLength ?? 0}}`
  return `${head}"data":${form === 'json' ? jsonArray(tensor) : jsonBase64(tensor)}}`
}

/** The outputs are text already; the rest is small. */
function answerText({ id, model, version, variant, fidelity, timing, route }: InferResult, outputs: readonly string[]): string {
  const head = JSON.stringify({ id, model, version, variant })
  return `${head.slice(0, -1)},"outputs":{${outputs.join(',')}},${JSON.stringify({ fidelity, timing, route }).slice(1)}`
}

/** https://www.w3.org/TR/server-timing/ */
export function serverTiming(times: { decodeMs: number; queueMs: number; inferMs: number; encodeMs: number }): string {
  const { decodeMs, queueMs, inferMs, encodeMs } = times
  return `decode;dur=${decodeMs.toFixed(3)}, queue;dur=${queueMs.toFixed(3)}, infer;dur=${inferMs.toFixed(3)}, encode;dur=${encodeMs.toFixed(3)}`
}
