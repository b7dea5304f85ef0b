// ModelInfer and ModelStreamInfer: decode, hand over to the gateway, encode. The same request path as the REST
// doors: only the reading and the writing differ. Outputs always travel raw.
import { randomUUID } from 'node:crypto'
import { FlyweightError } from '../errors.js'
import type { Sla } from '../registry/manifest.js'
import type { ModelVersion } from '../registry/model.js'
import type { GatewayPort, RepositoryPort } from '../serving/ports.js'
import type { InferResult } from '../serving/request.js'
import { dtypes, type Tensor } from '../tensor/tensor.js'
import { classificationOf } from '../v2/classification.js'
import { slaOf } from '../v2/parameters.js'
import { rawBytes } from '../wire/binary.js'
import { checkOutputs } from '../wire/signature.js'
import type { CallContext } from './call.js'
import { decodeInputs } from './contents.js'
import type { InferRequestMessage, InferResponseMessage, StreamResponseMessage } from './messages.js'
import { readOutputParameters, readRequestParameters, refuseInputParameters, toParameters } from './parameters.js'
import { releaseWhenWritten } from './proto.js'

interface Core {
  gateway: GatewayPort
  repository: RepositoryPort
}

/** Answers one request. @throws FlyweightError as the gateway and the checks of inputs do */
export async function modelInfer({ gateway, repository }: Core, request: InferRequestMessage, context: CallContext): Promise<InferResponseMessage> {
  const model = repository.resolve(request.model_name, request.model_version || undefined)
  const parameters = readRequestParameters(request.parameters)
  for (const [index, input] of request.inputs.entries()) refuseInputParameters(input.parameters, index)
  const inputs = decodeInputs(model, request)
  const wanted = request.outputs.map(({ name }) => name)
  checkOutputs(model.signature, wanted, (index) => `/outputs/${index}/name`)
  const shown = formsOf(model, request)
  const result = await gateway.infer({
    id: requestId(context),
    model: model.name,
    version: model.version,
    inputs,
    ...(wanted.length > 0 && { outputs: wanted }),
    sla: withDeadline(slaOf(parameters), model, context),
    ...(parameters.variant !== undefined && { variant: parameters.variant }),
    signal: context.signal,
    arrivedAt: context.arrivedAt,
  })
  return responseOf(result, request.id, shown)
}

/** Answers one request of a stream. */
export async function streamInfer(core: Core, request: InferRequestMessage, context: CallContext): Promise<StreamResponseMessage> {
  const response = await modelInfer(core, request, context)
  return releaseWhenWritten({ infer_response: response }, response)
}

/** A request of a stream that failed: the id says which. */
export function streamError({ id }: InferRequestMessage, error: FlyweightError): StreamResponseMessage {
  return { error_message: error.message, infer_response: { id } }
}

/** The call's deadline is the request's too, where it is the sooner. @throws FlyweightError `deadline_passed` */
function withDeadline(sla: Sla, { manifest }: ModelVersion, { remainingMs }: CallContext): Sla {
  if (remainingMs === Infinity) return sla
  if (remainingMs <= 0) throw new FlyweightError('deadline_passed', 'the deadline of the call had passed when it came')
  return { ...sla, latencyMs: Math.min(remainingMs, sla.latencyMs ?? manifest.sla?.latencyMs ?? Infinity) }
}

/** Decided before the run, so that what cannot be answered is refused early. */
function formsOf(model: ModelVersion, { outputs }: InferRequestMessage): Map<string, (tensor: Tensor) => Tensor> {
  if (outputs.length === 0) return new Map(model.signature.outputs.map(({ name }) => [name, (tensor) => tensor]))
  return new Map(
    outputs.map(({ name, parameters }, index) => {
      const { classification } = readOutputParameters(parameters, index)
      const { dtype } = model.signature.outputs.find((output) => output.name === name) as { dtype: Tensor['dtype'] }
      return [name, classificationOf(model, dtype, classification, `/outputs/${index}/parameters/classification`)]
    }),
  )
}

function responseOf(result: InferResult, id: string, forms: Map<string, (tensor: Tensor) => Tensor>): InferResponseMessage {
  const { model, version, variant, fidelity, route } = result
  const outputs = [...forms].map(([name, form]) => ({ name, tensor: form(result.outputs[name] as Tensor) }))
  const response: InferResponseMessage = {
    model_name: model,
    model_version: version,
    id,
    parameters: toParameters({ variant, fidelity, deadline_met: route.deadlineMet }),
    outputs: outputs.map(({ name, tensor }) => ({ name, datatype: dtypes[tensor.dtype].v2, shape: tensor.dims })),
    raw_output_contents: outputs.map(({ tensor }) => rawBytes(tensor)),
  }
  return releaseWhenWritten(response, result)
}

/** The client's own id where it is a plain token, so that logs can be joined; else a new one. */
function requestId({ metadata }: CallContext): string {
  const [given] = metadata.get('x-request-id')
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
}
