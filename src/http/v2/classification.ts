// The classification extension: an output becomes the N highest values of each row as strings.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
import type { ModelVersion } from '../../registry/model.js'
import { float32FromFloat16 } from '../../tensor/float16.js'
import { elementCount, type Tensor } from '../../tensor/tensor.js'

/**
 * `"<value>:<index>[:<label>]"` by falling value, shape `[batch, min(count, C)]`; `[min(count, C)]` where the model has no batch dimension.
 * Not for outputs of strings.
 */
export function classify(tensor: Tensor, count: number, { signature, labels }: Pick<ModelVersion, 'signature' | 'labels'>): Tensor {
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
