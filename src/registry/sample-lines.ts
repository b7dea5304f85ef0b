// Sample inputs in JSON Lines: a line is `{"inputs": {…}, "label"?: 3}`, inputs written as in `POST /infer`, and
// may have several rows (then "labels": one each). Every line is checked at once; values are read again when asked for.
import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import type { Hash } from 'node:crypto'
import { messageOf } from '../errors.js'
import { copyRows } from '../tensor/rows.js'
import type { Tensor } from '../tensor/tensor.js'
import { fileRange } from '../tensor/zip-file.js'
import { describe, pointerToken } from '../wire/describe.js'
import { parseJson, readJsonInput } from '../wire/json-read.js'
import { decodeAll } from '../wire/signature.js'
import { segmentFault, type SampleSegment, type SampleSignature } from './sample-segment.js'

/** Longer lines are refused: each is held as text, as values and as tensors. */
const MOST_LINE_BYTES = 64 * 2 ** 20
const FIELDS = ['inputs', 'label', 'labels']

interface Line {
  inputs: Record<string, Tensor>
  rows: number
  labels: readonly number[] | undefined
}

/**
 * One segment a line; blank lines are skipped. `hash` gets the file's bytes.
 * @throws FlyweightError `invalid_input` naming file, line and field
 */
export async function lineSegments(file: string, signature: SampleSignature, hash: Hash): Promise<SampleSegment[]> {
  const segments: SampleSegment[] = []
  const read = fileRange(file)
  // One line is kept, for batches that take its rows in parts.
  let latest: { segment: SampleSegment; inputs: Record<string, Tensor> } | undefined
  for await (const { bytes, offset, number } of linesOf(file, hash)) {
    if (bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)) continue
    const name = `${basename(file)} line ${number}`
    const { inputs, rows, labels } = parseLine(name, bytes, signature)
    const length = bytes.byteLength
    const segment: SampleSegment = {
      name,
      rows,
      labels,
      shape: signature.inputs.map((input) => (inputs[input.name] as Tensor).dims.slice(signature.batchable ? 1 : 0).join('x')).join(),
      take: (first, last) => {
        if (latest?.segment !== segment)
          latest = {
            segment,
            inputs: parseLine(
              name,
              again(name, () => read(offset, length)),
              signature,
            ).inputs,
          }
        const line = latest.inputs
        return Object.fromEntries(
          Object.entries(line).map(([key, tensor]) => [key, signature.batchable ? copyRows(tensor, first, last) : { ...tensor, data: tensor.data.slice() }]),
        )
      },
    }
    segments.push(segment)
  }
  return segments
}

function again(name: string, read: () => Uint8Array): Uint8Array {
  try {
    return read()
  } catch (cause) {
    throw segmentFault(name, `the file changed while it was read: ${messageOf(cause)}`, cause)
  }
}

async function* linesOf(file: string, hash: Hash): AsyncGenerator<{ bytes: Buffer; offset: number; number: number }> {
  let [offset, number] = [0, 1]
  let parts: Buffer[] = []
  const line = () => ({ bytes: Buffer.concat(parts), offset, number })
  let length = 0
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    hash.update(chunk)
    for (let at = 0; at < chunk.length; ) {
      const end = chunk.indexOf(0x0a, at)
      const part = chunk.subarray(at, end < 0 ? chunk.length : end)
      parts.push(part)
      length += part.length
      if (length > MOST_LINE_BYTES) throw segmentFault(`${basename(file)} line ${number}`, `it is longer than ${MOST_LINE_BYTES} bytes`)
      if (end < 0) break
      yield line()
      offset += length + 1
      number += 1
      parts = []
      length = 0
      at = end + 1
    }
  }
  if (length > 0) yield line()
}

function parseLine(name: string, bytes: Uint8Array, signature: SampleSignature): Line {
  try {
    const body = parseJson(bytes)
    const { value } = body
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw segmentFault(name, `it is ${describe(value)}, expected {"inputs": {…}}`)
    const unknown = Object.keys(value).find((field) => !FIELDS.includes(field))
    if (unknown !== undefined) throw segmentFault(name, `/${unknown} is not a field here, expected ${FIELDS.join(', ')}`)
    const fields = value as Record<string, unknown>
    const given = fields['inputs']
    if (typeof given !== 'object' || given === null || Array.isArray(given)) throw segmentFault(name, `/inputs is ${describe(given)}, expected an object`)
    const inputs = decodeAll(
      signature,
      Object.entries(given).map(([key, source]) => ({ name: key, pointer: `/inputs/${pointerToken(key)}`, source: { key, value: source as unknown } })),
      (spec, source, pointer) => readJsonInput(spec, source.value, { body, key: source.key, pointer }),
    )
    const rows = rowsOf(name, inputs, signature)
    return { inputs, rows, labels: labelsOf(name, fields, rows) }
  } catch (cause) {
    throw messageOf(cause).startsWith('samples ') ? cause : segmentFault(name, messageOf(cause).replace(/^the body /, 'it '), cause)
  }
}

function rowsOf(name: string, inputs: Readonly<Record<string, Tensor>>, { batchable }: SampleSignature): number {
  if (!batchable) return 1
  const counts = new Set(Object.values(inputs).map(({ dims }) => dims[0] ?? 0))
  const [count = 0] = counts
  if (counts.size > 1) throw segmentFault(name, `its inputs have ${[...counts].join(' and ')} rows, expected the same number`)
  if (count === 0) throw segmentFault(name, 'it has no rows')
  return count
}

function labelsOf(name: string, { label, labels }: Record<string, unknown>, rows: number): readonly number[] | undefined {
  if (label === undefined && labels === undefined) return undefined
  const given = label === undefined ? labels : [label]
  const fits = Array.isArray(given) && given.length === rows && given.every((value) => Number.isSafeInteger(value))
  if (!fits) {
    const field = label === undefined ? '/labels' : '/label'
    throw segmentFault(
      name,
      `${field} is ${describe(label ?? labels)}, expected ${rows === 1 ? 'one whole number' : `"labels", an array of ${rows} whole numbers`}`,
    )
  }
  return given as number[]
}
