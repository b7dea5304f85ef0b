// Rows to train on from samples (registry/samples.ts): inputs, and labels where there are any. Small data is read once;
// large data row by row, as training asks for it.
import { FlyweightError } from '../errors.js'
import type { Samples } from '../registry/samples.js'
import { joinRows } from '../tensor/rows.js'
import { byteSize, dtypes, elementCount, type Tensor, type TensorSpec } from '../tensor/tensor.js'
import type { Dataset } from '../train/dataset.js'
import { LABELS } from '../train/evaluate.js'

/** Samples up to this many bytes are kept in memory. */
const KEPT_BYTES = 512 * 2 ** 20

/**
 * @param output of the model that is trained: its last dimension, where it is fixed, is the number of classes
 * @throws FlyweightError `invalid_input` for rows of several shapes, as a step of training has one; for a label that is no class
 */
export function trainingData(samples: Samples, output: TensorSpec | undefined): Dataset {
  const { rows, labels } = samples
  const classes = output?.dims.at(-1)
  const wrong = typeof classes === 'number' && classes > 0 ? (labels?.findIndex((label) => label >= classes) ?? -1) : -1
  if (wrong >= 0)
    throw new FlyweightError('invalid_input', `labels: row ${wrong} has ${labels?.[wrong]}, expected 0 to ${Number(classes) - 1}, or below 0 for no label`)
  if (samples.alike(0, rows) < rows) {
    throw new FlyweightError(
      'invalid_input',
      `the data has rows of several shapes: the first ${samples.alike(0, rows)} of ${rows} differ from the next; expected one shape`,
    )
  }
  const first = samples.take(0, 1)
  const bytes = Object.values(first).reduce((sum, tensor) => sum + byteSize(tensor), 0) * rows
  const all = bytes <= KEPT_BYTES ? samples.take(0, rows) : undefined
  const inputsOf = (chosen: readonly number[]) => (all === undefined ? joinRows(chosen.map((row) => samples.take(row, 1))) : pickRows(all, chosen))
  return {
    rows,
    read: (chosen) => ({ ...inputsOf(chosen), ...(labels === undefined ? {} : { [LABELS]: labelsOf(labels, chosen) }) }),
  }
}

function labelsOf(labels: Int32Array, rows: readonly number[]): Tensor {
  return { dtype: 'int64', dims: [rows.length], data: BigInt64Array.from(rows, (row) => BigInt(labels[row] as number)) }
}

function pickRows(tensors: Record<string, Tensor>, rows: readonly number[]): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, dims, data }]) => {
      const size = elementCount(dims.slice(1))
      const picked = new dtypes[dtype as 'float32'].array(rows.length * size)
      for (const [index, row] of rows.entries()) picked.set((data as Float32Array).subarray(row * size, (row + 1) * size), index * size)
      return [name, { dtype, dims: [rows.length, ...dims.slice(1)], data: picked }]
    }),
  )
}
