// A run of sample rows of one shape that lie together: a file of arrays, or a line of JSON. What samples.ts
// strings together, and the readers of each format make.
import { FlyweightError } from '../errors.js'
import type { Tensor } from '../tensor/tensor.js'
import type { Signature } from './model.js'

export type SampleSignature = Pick<Signature, 'inputs' | 'batchable'>

export interface SampleSegment {
  /** What errors call it. */
  name: string
  rows: number
  /** Equal for rows that fit into one batch. */
  shape: string
  /** One class index a row. */
  labels: readonly number[] | undefined
  /** Inputs of rows `first` … `last − 1`, freshly allocated. @throws FlyweightError `invalid_input` when the file was damaged or changed */
  take(first: number, last: number): Record<string, Tensor>
}

export function segmentFault(name: string, detail: string, cause?: unknown): FlyweightError {
  return new FlyweightError('invalid_input', `samples ${name}: ${detail}`, { cause })
}
