// The classification extension: an output becomes the N highest values of each row as strings.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
import type { ModelVersion } from '../registry/model.js'
import { float32FromFloat16 } from '../tensor/float16.js'
import { elementCount, type DType, type Tensor } from '../tensor/tensor.js'
import { inputError } from '../wire/signature.js'

/**
 * What becomes of an output of which a classification of `count` classes is asked; undefined leaves it as it is.
 * @param pointer where the count stands in the request
 * @throws FlyweightError `invalid_input` for an output of strings
 */
export function classificationOf(
  model: Pick<ModelVersion, 'signature' | 'labels'>,
  dtype: DType,
  count: number | undefined,
  pointer: string,
): (tensor: Tensor) => Tensor {
  if (count === undefined) return (tensor) => tensor
  if (dtype === 'string') throw inputError(pointer, 'asks for a classification of an output of strings, expected numbers')
  return (tensor) => classify(tensor, count, model)
}

/**
 * `"<value>:<index>[:<label>]"` by falling value, shape `[batch, min(count, C)]`; `[min(count, C)]` where the model has no batch dimension.
 */
function classify(tensor: Tensor, count: number, { signature, labels }: Pick<ModelVersion, 'signature' | 'labels'>): Tensor {
  const values = tensor.dtype === 'float16' ? float32FromFloat16(tensor.data as Uint16Array) : (tensor.data as Float32Array)
  const rows = signature.batchable ? (tensor.dims[0] ?? 1) : 1
  const classes = rows === 0 ? 0 : elementCount(tensor.dims) / rows
  const kept = Math.min(count, classes)
  const data: string[] = []
  for (let row = 0; row < rows; row++) {
    const scores = Array.from({ length: classes }, (_, index) => Number(values[row * classes + index]))
    const order = scores.map((_, index) => index).sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b)
    for (const index of order.slice(0, kept)) {
      const label = labels?.[index]
      data.push(`${(scores[index] as number).toFixed(6)}:${index}${label === undefined ? '' : `:${label}`}`)
    }
  }
  return { dtype: 'string', dims: signature.batchable ? [rows, kept] : [kept], data }
}
