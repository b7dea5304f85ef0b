// POST /v2/models/{model}[/versions/{version}]/infer: JSON, JSON with binary tensors, or one raw tensor.
// The same request path as POST /infer: only the reading and the writing differ.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { ModelVersion } from '../../registry/model.js'
import type { InferResult } from '../../serving/request.js'
import { dtypes, type Tensor } from '../../tensor/tensor.js'
import { answer, binaryMedia, component, failures, INFERENCE_FAILURES } from '../answers.js'
import { bodyOf, clientSignal } from '../body.js'
import { serverTiming } from '../infer.js'
import type { Scope, Services } from '../services.js'
import { checkOf } from '../../wire/check.js'
import { bytesPass } from '../validation.js'
import { HEADER_LENGTH, rawBytes, readRaw, readRawRequest, splitBody } from '../../wire/binary.js'
import { parseJson, readArray } from '../../wire/json-read.js'
import { jsonArray } from '../../wire/json-write.js'
import { releaseWhenSent, sendParts } from '../parts.js'
import { checkOutputs, checkShape, checkType, decodeAll, inputError } from '../../wire/signature.js'
import { classificationOf } from '../../v2/classification.js'
import { requestOf } from '../../v2/chained.js'
import { slaOf } from '../../v2/parameters.js'
import * as examples from './examples.js'
import { ModelParams, VersionParams } from './params.js'
import { V2InferBody, V2InferRequest } from './schemas.js'

const checkBody = checkOf(V2InferBody)

const schema = {
  tags: ['v2'],
  summary: 'Run a model on some inputs',
  description:
    'With the header `Inference-Header-Content-Length` the body is that many bytes of JSON followed by the raw tensors of the inputs that have a ' +
    '`binary_data_size`; `0` makes the whole body the raw data of the model’s one input. The answer has the same form when an output is binary. ' +
    'An answer in JSON is a request, too: without `inputs`, its `outputs` are taken for them, as by the next model of a KServe InferenceGraph.',
  body: Type.Unsafe<Buffer>({ ...V2InferRequest, examples: [examples.inferRequest] }),
  consumes: ['application/json', 'application/octet-stream'],
  response: {
    200: answer('The outputs', component('V2InferAnswer'), examples.inferAnswer, binaryMedia),
    ...failures(...INFERENCE_FAILURES),
  },
}

interface Decoded {
  body: Omit<V2InferBody, 'inputs'>
  inputs: Record<string, Tensor>
  /** Outputs that say nothing else are binary. */
  binaryByDefault: boolean
}

export function v2InferRoutes(scope: Scope, services: Services): void {
  const { maxBodyBytes } = services.config.server
  const options = { bodyLimit: maxBodyBytes, validatorCompiler: bytesPass }
  scope.post('/v2/models/:model/infer', { ...options, schema: { ...schema, operationId: 'v2Infer', params: ModelParams } }, (request, reply) =>
    infer(services, request, reply, request.params),
  )
  scope.post(
    '/v2/models/:model/versions/:version/infer',
    { ...options, schema: { ...schema, operationId: 'v2InferVersion', params: VersionParams } },
    (request, reply) => infer(services, request, reply, request.params),
  )
}

async function infer(
  { gateway, repository, config }: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  target: { model: string; version?: string },
): Promise<FastifyReply> {
  const started = performance.now()
  const model = repository.resolve(target.model, target.version)
  const { body, inputs, binaryByDefault } = decode(model, await bodyOf(request, config.server.maxBodyBytes), request.headers[HEADER_LENGTH])
  const wanted = body.outputs?.map(({ name }) => name)
  if (wanted) checkOutputs(model.signature, wanted, (index) => `/outputs/${index}/name`)
  const forms = formsOf(model, body, binaryByDefault)
  const decodeMs = performance.now() - started
  const variant = body.parameters?.variant
  const result = await gateway.infer({
    id: request.id,
    model: model.name,
    version: model.version,
    inputs,
    ...(wanted && wanted.length > 0 && { outputs: wanted }),
    sla: slaOf(body.parameters ?? {}),
    ...(variant !== undefined && { variant }),
    signal: clientSignal(reply),
    arrivedAt: request.arrivedAt,
  })
  releaseWhenSent(reply, result)
  return send(reply, result, { id: body.id, forms, decodeMs })
}

function decode(model: ModelVersion, bytes: Buffer, headerLength: string | string[] | undefined): Decoded {
  const { json, raw } = splitBody(bytes, headerLength as string | undefined)
  if (json === undefined) return { body: {}, inputs: readRawRequest(model.signature, raw), binaryByDefault: true }
  const parsed = parseJson(json)
  const document = { ...parsed, value: requestOf(parsed.value), lossless: () => requestOf(parsed.lossless()) }
  checkBody(document.value)
  const body = document.value as V2InferBody
  const slices = sliceRaw(body, raw)
  const inputs = decodeAll(
    model.signature,
    body.inputs.map((input, index) => ({ name: input.name, pointer: `/inputs/${index}`, source: { input, index } })),
    (spec, { input, index }, pointer) => {
      checkType(dtypes[spec.dtype].v2, input.datatype, `${pointer}/datatype`)
      const dims = checkShape(spec, input.shape, `${pointer}/shape`)
      const slice = slices[index]
      if (slice) return readRaw(spec, dims, slice, `${pointer}/parameters/binary_data_size`)
      if (!Array.isArray(input.data)) throw inputError(`${pointer}/data`, 'is missing, expected an array (or parameters.binary_data_size)')
      if (spec.dtype === 'float16' || spec.dtype === 'bfloat16')
        throw inputError(`${pointer}/data`, `is JSON, but ${input.datatype} must be sent as binary data`)
      const pick = (lossless: unknown): unknown => (lossless as V2InferBody).inputs[index]?.data
      return readArray(spec, dims, input.data, { body: document, pointer: `${pointer}/data`, pick })
    },
  )
  return { body, inputs, binaryByDefault: body.parameters?.binary_data_output === true }
}

/** Cuts the raw part into the inputs that say they are binary, in the listed order. */
function sliceRaw({ inputs }: V2InferBody, raw: Buffer): (Buffer | undefined)[] {
  let offset = 0
  const slices = inputs.map(({ data, parameters }, index) => {
    const size = parameters?.binary_data_size
    if (size === undefined) return undefined
    const pointer = `/inputs/${index}/parameters/binary_data_size`
    if (data !== undefined) throw inputError(`/inputs/${index}/data`, 'is there beside parameters.binary_data_size, expected one of the two')
    if (offset + size > raw.byteLength) throw inputError(pointer, `is ${size}, but only ${raw.byteLength - offset} bytes are left after the JSON`)
    offset += size
    return raw.subarray(offset - size, offset)
  })
  if (offset !== raw.byteLength) throw inputError('', `has ${raw.byteLength - offset} bytes after the JSON that no input claims by binary_data_size`)
  return slices
}

/** Makes one output's entry of the answer, and its raw bytes when it is binary. */
type Form = (tensor: Tensor) => { text: string; raw?: Buffer }

/** Decided before the run, so that what cannot be answered is refused early. */
function formsOf(model: ModelVersion, body: Omit<V2InferBody, 'inputs'>, binaryByDefault: boolean): Map<string, Form> {
  const asked = body.outputs && body.outputs.length > 0 ? body.outputs : model.signature.outputs.map(({ name }) => ({ name, parameters: undefined }))
  return new Map(
    asked.map(({ name, parameters }, index) => {
      const { dtype } = model.signature.outputs.find((output) => output.name === name) as { dtype: Tensor['dtype'] }
      const binary = parameters?.binary_data ?? binaryByDefault
      const classes = parameters?.classification
      const shown = classificationOf(model, dtype, classes, `/outputs/${index}/parameters/classification`)
      if (!binary && classes === undefined && (dtype === 'float16' || dtype === 'bfloat16')) {
        throw inputError(`/outputs/${index}`, `is ${dtypes[dtype].v2}, which JSON does not carry: ask for it with binary_data`)
      }
      return [name, (tensor) => outputEntry(name, shown(tensor), binary)]
    }),
  )
}

function outputEntry(name: string, tensor: Tensor, binary: boolean): { text: string; raw?: Buffer } {
  const head = `{"name":${JSON.stringify(name)},"shape":[${tensor.dims.join(',')}],"datatype":"${dtypes[tensor.dtype].v2}",`
  if (!binary) return { text: `${head}"data":${jsonArray(tensor)}}` }
  const raw = rawBytes(tensor)
  return { text: `${head}"parameters":{"binary_data_size":${raw.byteLength}}}`, raw }
}

function send(reply: FastifyReply, result: InferResult, options: { id: string | undefined; forms: Map<string, Form>; decodeMs: number }): FastifyReply {
  const started = performance.now()
  const entries = [...options.forms].map(([name, form]) => form(result.outputs[name] as Tensor))
  const { model, version, variant, fidelity, route, timing } = result
  const head = JSON.stringify({ model_name: model, model_version: version, id: options.id, parameters: { variant, fidelity, deadline_met: route.deadlineMet } })
  const text = `${head.slice(0, -1)},"outputs":[${entries.map((entry) => entry.text).join(',')}]}`
  const raw = entries.flatMap((entry) => (entry.raw ? [entry.raw] : []))
  const encodeMs = performance.now() - started
  reply.header('x-flyweight-variant', variant)
  reply.header('server-timing', serverTiming({ decodeMs: options.decodeMs, queueMs: timing.queueMs, inferMs: timing.inferMs, encodeMs }))
  if (raw.length === 0) return reply.type('application/json; charset=utf-8').send(text)
  const json = Buffer.from(text)
  return sendParts(reply.header(HEADER_LENGTH, json.byteLength).type('application/octet-stream'), [json, ...raw])
}
