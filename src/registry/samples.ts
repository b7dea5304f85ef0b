// Sample inputs of a model: a folder of .npz files, checked against the model's signature and read one
// file at a time. Used for calibration and fidelity; knows nothing of either.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { FlyweightError, messageOf } from '../errors.js'
import { readNpz } from '../tensor/npz.js'
import { copyRows, joinRows } from '../tensor/rows.js'
import type { Tensor, TensorSpec } from '../tensor/tensor.js'
import type { Signature } from './model.js'

export interface Samples {
  /** Rows of the batch dimension over all files; for a model that does not batch, one a file. */
  readonly rows: number
  /** SHA-256 (hex) over the files, in name order. */
  readonly digest: string
  /** One class index a row, where every file has an array `labels`. */
  readonly labels: Int32Array<ArrayBuffer> | undefined
  /** Inputs of rows `from` … `from + count − 1`, freshly allocated. @throws RangeError outside of `rows` */
  take(from: number, count: number): Record<string, Tensor>
}

type Inputs = Record<string, Tensor>

/**
 * Opens the .npz files of `directory`: arrays are named as the inputs, or `in/<name>`; `labels` is optional;
 * names under `out/` are reference outputs and left alone. Undefined when the folder is absent or has no .npz file.
 * @throws FlyweightError `invalid_input` naming file, array, what came and what the model expects.
 */
export async function loadSamples(directory: string, signature: Pick<Signature, 'inputs' | 'batchable'>): Promise<Samples | undefined> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const files = names
    .filter((name) => name.endsWith('.npz'))
    .sort()
    .map((name) => join(directory, name))
  if (files.length === 0) return undefined
  const hash = createHash('sha256')
  const starts: number[] = []
  const labels: number[] = []
  let rows = 0
  let cached: { file: string; inputs: Inputs } | undefined
  const inputsOf = (file: string): Inputs => {
    if (cached?.file !== file) cached = { file, inputs: readInputs(file, arraysOf(file, readFileSync(file)), signature) }
    return cached.inputs
  }
  for (const file of files) {
    const bytes = await readFile(file)
    hash.update(bytes)
    const arrays = arraysOf(file, bytes)
    const count = rowsOf(file, readInputs(file, arrays, signature), signature)
    starts.push(rows)
    rows += count
    const found = arrays.get('labels')
    if (found) labels.push(...labelsOf(file, found, count))
  }
  if (labels.length !== 0 && labels.length !== rows) throw fault(basename(directory), 'some files have an array "labels" and others do not')
  return {
    rows,
    digest: hash.digest('hex'),
    labels: labels.length === 0 ? undefined : Int32Array.from(labels),
    take: (from, count) => {
      if (from < 0 || count < 1 || from + count > rows) throw new RangeError(`rows ${from} to ${from + count} of ${rows}`)
      if (!signature.batchable && count !== 1) throw new RangeError('a model that does not batch takes its samples one by one')
      const parts: Inputs[] = []
      for (const [index, file] of files.entries()) {
        const start = starts[index]!
        const end = starts[index + 1] ?? rows
        if (end <= from || start >= from + count) continue
        const inputs = inputsOf(file)
        const first = Math.max(from, start) - start
        const last = Math.min(from + count, end) - start
        parts.push(signature.batchable ? mapInputs(inputs, (tensor) => copyRows(tensor, first, last)) : mapInputs(inputs, copyOf))
      }
      return joinRows(parts)
    },
  }
}

function arraysOf(file: string, bytes: Uint8Array): Map<string, Tensor> {
  try {
    return readNpz(bytes)
  } catch (cause) {
    throw fault(file, `it is not an .npz file: ${messageOf(cause)}`, cause)
  }
}

function readInputs(file: string, arrays: ReadonlyMap<string, Tensor>, signature: Pick<Signature, 'inputs' | 'batchable'>): Inputs {
  const inputs: Inputs = {}
  const known = new Set(['labels'])
  for (const spec of signature.inputs) {
    const name = arrays.has(spec.name) ? spec.name : `in/${spec.name}`
    const tensor = arrays.get(name)
    if (!tensor) throw fault(file, `it has no array for input "${spec.name}"; it has ${[...arrays.keys()].map((key) => `"${key}"`).join(', ') || 'none'}`)
    known.add(name)
    checkTensor(file, name, tensor, spec)
    inputs[spec.name] = tensor
  }
  const unknown = [...arrays.keys()].find((name) => !known.has(name) && !name.startsWith('out/'))
  if (unknown !== undefined)
    throw fault(file, `array "${unknown}" is no input of the model, which has ${signature.inputs.map(({ name }) => `"${name}"`).join(', ')}`)
  return inputs
}

function checkTensor(file: string, name: string, tensor: Tensor, spec: TensorSpec): void {
  if (tensor.dtype !== spec.dtype) throw fault(file, `array "${name}" is ${tensor.dtype}, expected ${spec.dtype}`)
  const fits = tensor.dims.length === spec.dims.length && spec.dims.every((dim, axis) => typeof dim === 'string' || dim < 0 || dim === tensor.dims[axis])
  if (!fits) throw fault(file, `array "${name}" has dims [${tensor.dims.join(', ')}], expected [${spec.dims.join(', ')}]`)
}

function rowsOf(file: string, inputs: Inputs, { batchable }: Pick<Signature, 'batchable'>): number {
  if (!batchable) return 1
  const counts = new Set(Object.values(inputs).map(({ dims }) => dims[0] ?? 0))
  const [count = 0] = counts
  if (counts.size > 1) throw fault(file, `its inputs have ${[...counts].join(' and ')} rows, expected the same number`)
  if (count === 0) throw fault(file, 'it has no rows')
  return count
}

function labelsOf(file: string, { dtype, dims, data }: Tensor, rows: number): number[] {
  if (dims.length !== 1 || dims[0] !== rows || !/^u?int/.test(dtype)) {
    throw fault(file, `array "labels" is ${dtype} [${dims.join(', ')}], expected integers [${rows}], one a row`)
  }
  return Array.from(data as ArrayLike<number | bigint>, Number)
}

function mapInputs(inputs: Inputs, change: (tensor: Tensor) => Tensor): Inputs {
  return Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, change(tensor)]))
}

function copyOf(tensor: Tensor): Tensor {
  return { ...tensor, data: tensor.data.slice() }
}

function fault(file: string, detail: string, cause?: unknown): FlyweightError {
  return new FlyweightError('invalid_input', `samples ${basename(file)}: ${detail}`, { cause })
}
