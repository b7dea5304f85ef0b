// Asks a gateway over gRPC which digit a picture shows: once, then as a stream of requests that are answered in
// their order. `node examples/grpc.mjs --address 127.0.0.1:8081`, the port being the gateway's server.grpcPort.
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { credentials, loadPackageDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

const { values: flags } = parseArgs({ options: { address: { type: 'string', default: '127.0.0.1:8081' } } })
const proto = fileURLToPath(new URL('../proto/inference.proto', import.meta.url))
const { inference } = loadPackageDefinition(loadSync(proto, { keepCase: true, longs: Number, defaults: true, oneofs: true }))
const client = new inference.GRPCInferenceService(flags.address, credentials.createInsecure())
const digit = JSON.parse(await readFile(new URL('digit.json', import.meta.url), 'utf8')).inputs.x

/** The three most likely classes of one picture. */
const request = {
  model_name: 'digits',
  parameters: { sla_ms: { double_param: 1000 } },
  inputs: [{ name: 'x', datatype: 'FP32', shape: digit.shape }],
  outputs: [{ name: 'logits', parameters: { classification: { int64_param: 3 } } }],
  raw_input_contents: [Buffer.from(digit.data, 'base64')],
}

/** Strings of a BYTES tensor: a uint32 length and the bytes each. */
function strings(bytes) {
  const texts = []
  for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32LE(at)) texts.push(bytes.toString('utf8', at + 4, at + 4 + bytes.readUInt32LE(at)))
  return texts
}

const infer = promisify(client.ModelInfer.bind(client))
const answer = await infer(request, { deadline: Date.now() + 10_000 })
console.log(`${answer.parameters.variant.string_param} says ${strings(answer.raw_output_contents[0]).join(', ')}`)

const stream = client.ModelStreamInfer()
const ids = []
stream.on('data', ({ error_message: error, infer_response: response }) => ids.push(error || response.id))
const ended = new Promise((resolve, reject) => stream.on('end', resolve).on('error', reject))
for (let i = 0; i < 8; i++) stream.write({ ...request, id: `picture ${i}` })
stream.end()
await ended
console.log(`the stream answered ${ids.join(', ')}`)
client.close()
