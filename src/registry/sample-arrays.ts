// Sample inputs as arrays on disk: .npz files, and .npy files named after the inputs or in folders named after
// them. Checks names, dtypes and dims; values are read when asked for. Lines of JSON are sample-lines.ts's.
import { basename } from 'node:path'
import { FlyweightError, messageOf } from '../errors.js'
import { openNpy, openNpz, type StoredArray } from '../tensor/array-file.js'
import type { Tensor, TensorSpec } from '../tensor/tensor.js'
import { segmentFault, type SampleSegment, type SampleSignature } from './sample-segment.js'

/** Array of labels beside those of the inputs. */
export const LABELS = 'labels'

/** One .npz file: arrays named as the inputs, or `in/<name>`; optionally `labels`; those under `out/` are left alone. */
export function npzSegment(file: string, signature: SampleSignature): SampleSegment {
  const name = basename(file)
  let arrays: Map<string, StoredArray>
  try {
    arrays = openNpz(file)
  } catch (cause) {
    throw segmentFault(name, `it is not an .npz file: ${messageOf(cause)}`, cause)
  }
  return arraysSegment(name, arrays, signature)
}

/**
 * .npy files that belong together, one an input.
 * @param name what to call them in errors
 */
export function npySegment(name: string, files: ReadonlyMap<string, string>, signature: SampleSignature): SampleSegment {
  const arrays = [...files].map(([array, file]): [string, StoredArray] => {
    const opened = guarded(name, () => openNpy(file))
    const spec = signature.inputs.find((input) => input.name === array)
    return [array, spec === undefined || !signature.batchable ? opened : asRow(opened, spec)]
  })
  return arraysSegment(name, new Map(arrays), signature)
}

/** Labels of a .npy file. @throws FlyweightError `invalid_input` unless they are integers, one for each of `rows` rows */
export function npyLabels(name: string, file: string, rows: number): readonly number[] {
  return labelsOf(
    name,
    guarded(name, () => openNpy(file)),
    rows,
  )
}

function arraysSegment(name: string, arrays: ReadonlyMap<string, StoredArray>, signature: SampleSignature): SampleSegment {
  const inputs = new Map<string, StoredArray>()
  const known = new Set([LABELS])
  for (const spec of signature.inputs) {
    const key = arrays.has(spec.name) ? spec.name : `in/${spec.name}`
    const array = arrays.get(key)
    if (!array)
      throw segmentFault(name, `it has no array for input "${spec.name}"; it has ${[...arrays.keys()].map((other) => `"${other}"`).join(', ') || 'none'}`)
    known.add(key)
    check(name, key, array, spec)
    inputs.set(spec.name, array)
  }
  const unknown = [...arrays.keys()].find((key) => !known.has(key) && !key.startsWith('out/'))
  if (unknown !== undefined)
    throw segmentFault(name, `array "${unknown}" is no input of the model, which has ${signature.inputs.map((input) => `"${input.name}"`).join(', ')}`)
  const rows = rowsOf(name, inputs, signature)
  const labels = arrays.get(LABELS)
  const read = (of: (array: StoredArray) => Tensor) => guarded(name, () => Object.fromEntries([...inputs].map(([input, array]) => [input, of(array)])))
  return {
    name,
    rows,
    shape: [...inputs.values()].map(({ dims }) => dims.slice(signature.batchable ? 1 : 0).join('x')).join(),
    labels: labels === undefined ? undefined : labelsOf(name, labels, rows),
    take: (first, last) => read((array) => (signature.batchable ? array.rows(first, last) : array.whole())),
  }
}

/** A .npy file of one row may leave the batch dimension out. */
function asRow(array: StoredArray, spec: TensorSpec): StoredArray {
  if (array.dims.length !== spec.dims.length - 1) return array
  const whole = () => ({ ...array.whole(), dims: [1, ...array.dims] })
  return { dtype: array.dtype, dims: [1, ...array.dims], rows: whole, whole }
}

function check(name: string, key: string, { dtype, dims }: StoredArray, spec: TensorSpec): void {
  if (dtype !== spec.dtype) throw segmentFault(name, `array "${key}" is ${dtype}, expected ${spec.dtype}`)
  const fits = dims.length === spec.dims.length && spec.dims.every((dim, axis) => typeof dim === 'string' || dim < 0 || dim === dims[axis])
  if (!fits) throw segmentFault(name, `array "${key}" has dims [${dims.join(', ')}], expected [${spec.dims.join(', ')}]`)
}

function rowsOf(name: string, inputs: ReadonlyMap<string, StoredArray>, { batchable }: SampleSignature): number {
  if (!batchable) return 1
  const counts = new Set([...inputs.values()].map(({ dims }) => dims[0] ?? 0))
  const [count = 0] = counts
  if (counts.size > 1) throw segmentFault(name, `its inputs have ${[...counts].join(' and ')} rows, expected the same number`)
  if (count === 0) throw segmentFault(name, 'it has no rows')
  return count
}

function labelsOf(name: string, array: StoredArray, rows: number): readonly number[] {
  const { dtype, dims } = array
  if (dims.length !== 1 || dims[0] !== rows || !/^u?int/.test(dtype)) {
    throw segmentFault(name, `array "labels" is ${dtype} [${dims.join(', ')}], expected integers [${rows}], one a row`)
  }
  return guarded(name, () => Array.from(array.whole().data as ArrayLike<number | bigint>, Number))
}

function guarded<Value>(name: string, read: () => Value): Value {
  try {
    return read()
  } catch (cause) {
    if (cause instanceof FlyweightError) throw segmentFault(name, cause.message, cause)
    throw cause
  }
}
