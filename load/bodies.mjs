// The same row as the body of a request to each server, in JSON and in binary.
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readNpz } from '../dist/tensor/npz.js'

/** First sample row of a model that takes one input: `{ input, dims, row }`. */
export function sampleRow(modelsDirectory, model) {
  const folder = join(modelsDirectory, model, 'samples')
  const file = readdirSync(folder)
    .filter((name) => name.endsWith('.npz'))
    .sort()[0]
  const arrays = readNpz(readFileSync(join(folder, file)))
  const [name, { dims, data }] = [...arrays].find(([array]) => array !== 'labels' && !array.startsWith('out/'))
  const rowDims = [1, ...dims.slice(1)]
  return {
    input: name.replace(/^in\//, ''),
    dims: rowDims,
    row: data.slice(
      0,
      rowDims.reduce((product, dim) => product * dim),
    ),
  }
}

/** Path, headers and body by encoding, for servers that take a bare row. */
export function bareRequest({ row }, encoding) {
  if (encoding === 'binary') return { path: '/', headers: { 'content-type': 'application/octet-stream' }, body: bytesOf(row) }
  return { path: '/', headers: { 'content-type': 'application/json' }, body: Buffer.from(JSON.stringify({ data: Array.from(row) })) }
}

/** The same for the gateway: `POST /infer` in JSON, the Open Inference Protocol's binary extension in binary. */
export function gatewayRequest({ model, input, dims, row, sla, variant }, encoding) {
  if (encoding === 'json') {
    const body = { model, inputs: { [input]: { shape: dims, data: Array.from(row) } }, ...(sla && { sla }), ...(variant && { variant }) }
    return { path: '/infer', headers: { 'content-type': 'application/json' }, body: Buffer.from(JSON.stringify(body)) }
  }
  const parameters = {
    binary_data_output: true,
    ...(sla?.latencyMs && { sla_ms: sla.latencyMs }),
    ...(sla?.minFidelity && { min_fidelity: sla.minFidelity }),
    ...(variant && { variant }),
  }
  const tensor = { name: input, shape: dims, datatype: 'FP32', parameters: { binary_data_size: row.byteLength } }
  const head = Buffer.from(JSON.stringify({ parameters, inputs: [tensor] }))
  return {
    path: `/v2/models/${model}/infer`,
    headers: { 'content-type': 'application/octet-stream', 'inference-header-content-length': String(head.length) },
    body: Buffer.concat([head, bytesOf(row)]),
  }
}

function bytesOf(row) {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength)
}
