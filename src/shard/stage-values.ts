// The values of one micro-batch, each kept until its last reader has it. Buffers move to who reads them, so that only
// what somebody still needs is copied.
import { FlyweightError } from '../errors.js'
import { freeOutputs } from '../runtime/free-outputs.js'
import type { Tensor } from '../tensor/tensor.js'

export class StageValues {
  readonly #tensors = new Map<string, Tensor>()
  /** Reads to come, of a value, and of all that lies in a buffer: two values may share one. */
  readonly #reads = new Map<string, number>()
  readonly #shares = new Map<ArrayBuffer, number>()

  /** @param reads how often take() will ask for it */
  put(name: string, tensor: Tensor, reads: number): void {
    if (reads === 0) return
    this.#tensors.set(name, tensor)
    this.#reads.set(name, reads)
    if (!Array.isArray(tensor.data)) this.#shares.set(tensor.data.buffer, (this.#shares.get(tensor.data.buffer) ?? 0) + reads)
  }

  /** Values to give away, buffers and all: the last read gets the value itself, those before it a copy. */
  take(names: readonly string[]): Record<string, Tensor> {
    return Object.fromEntries(names.map((name) => [name, this.#take(name)]))
  }

  /** Frees what is left. */
  drop(): void {
    freeOutputs(Object.fromEntries(this.#tensors))
    this.#tensors.clear()
    this.#reads.clear()
    this.#shares.clear()
  }

  #take(name: string): Tensor {
    const tensor = this.#tensors.get(name)
    if (tensor === undefined) throw new RangeError(`value "${name}" is not there, or all its reads have been`)
    const left = (this.#reads.get(name) ?? 0) - 1
    this.#reads.set(name, left)
    if (left === 0) this.#tensors.delete(name)
    const { data } = tensor
    if (Array.isArray(data)) return tensor
    const shares = (this.#shares.get(data.buffer) ?? 0) - 1
    this.#shares.set(data.buffer, shares)
    return shares === 0 ? tensor : { ...tensor, data: data.slice() }
  }
}

/** @throws FlyweightError `inference_failed` where a host gave less than asked */
export function named(outputs: Readonly<Record<string, Tensor>>, names: readonly string[]): [string, Tensor][] {
  return names.map((name) => {
    const tensor = outputs[name]
    if (tensor === undefined)
      throw new FlyweightError('inference_failed', `output "${name}" of a stage is missing, got ${Object.keys(outputs).join(', ') || 'none'}`)
    return [name, tensor]
  })
}
