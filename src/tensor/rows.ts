// Rows of tensors: taking some, putting several tensors' rows together, along the first axis. Copies, so that
// whoever gets the result may keep and change it.
import { FlyweightError } from '../errors.js'
import { allocate, elementCount, type NumericArray, type Tensor } from './tensor.js'

/** Rows `first` … `last − 1`, freshly allocated. */
export function copyRows({ dtype, dims, data }: Tensor, first: number, last: number): Tensor {
  const row = elementCount(dims.slice(1))
  return { dtype, dims: [last - first, ...dims.slice(1)], data: data.slice(first * row, last * row) }
}

/**
 * Concatenates named tensors along the first axis; one part alone is returned as it is.
 * @throws FlyweightError `invalid_input` when the parts differ in another dimension
 */
export function joinRows(parts: readonly Record<string, Tensor>[]): Record<string, Tensor> {
  const [first] = parts
  if (first === undefined || parts.length === 1) return first ?? {}
  return Object.fromEntries(Object.keys(first).map((name) => [name, joinTensors(parts.map((part) => part[name] as Tensor))]))
}

function joinTensors(tensors: readonly Tensor[]): Tensor {
  const [{ dtype, dims }] = tensors as [Tensor]
  const other = tensors.find((tensor) => String(tensor.dims.slice(1)) !== String(dims.slice(1)))
  if (other) throw new FlyweightError('invalid_input', `samples of dims [${dims.join(', ')}] and [${other.dims.join(', ')}] do not fit into one batch`)
  const joined = allocate(
    dtype,
    tensors.reduce((sum, tensor) => sum + tensor.data.length, 0),
  )
  let at = 0
  for (const { data } of tensors) {
    if (Array.isArray(joined)) (data as string[]).forEach((text, index) => (joined[at + index] = text))
    else (joined as Float32Array).set(data as Exclude<NumericArray, BigInt64Array | BigUint64Array>, at)
    at += data.length
  }
  return { dtype, dims: [tensors.reduce((sum, tensor) => sum + (tensor.dims[0] as number), 0), ...dims.slice(1)], data: joined }
}
