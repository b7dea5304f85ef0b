// Memory of values that stages hand on, used again. Fresh memory starts with pages that the system has yet to supply, one
// by one as they are written; in a pipeline the same sizes come by again and again.
import { freeBuffers } from '../runtime/free-outputs.js'
import { byteSize, type Tensor } from '../tensor/tensor.js'

export class ValueMemory {
  readonly #capacityBytes: number
  /** Sizes used last are last. */
  readonly #free = new Map<number, ArrayBuffer[]>()
  #bytes = 0

  /** @param capacityBytes what may lie unused at most; what is given beyond that frees what was not used for longest */
  constructor(capacityBytes: number) {
    this.#capacityBytes = capacityBytes
  }

  /** A buffer of just that size, whatever is in it; undefined where none lies here. */
  take(byteLength: number): ArrayBuffer | undefined {
    const free = this.#free.get(byteLength)
    const buffer = free?.pop()
    if (free === undefined || buffer === undefined) return undefined
    this.#free.delete(byteLength)
    if (free.length > 0) this.#free.set(byteLength, free)
    this.#bytes -= byteLength
    return buffer
  }

  /** Nobody else may hold them; those that moved away already stay untouched. */
  give(buffers: readonly ArrayBuffer[]): void {
    // Small views may lie in Node's pool, which is everybody's.
    for (const buffer of buffers.filter(({ byteLength }) => byteLength > 0 && byteLength !== Buffer.poolSize)) {
      const free = this.#free.get(buffer.byteLength) ?? []
      this.#free.delete(buffer.byteLength)
      this.#free.set(buffer.byteLength, [...free, buffer])
      this.#bytes += buffer.byteLength
    }
    for (const [size, free] of this.#free) {
      const most = Math.ceil((this.#bytes - this.#capacityBytes) / size)
      if (most <= 0) return
      const freed = free.splice(0, most)
      if (free.length === 0) this.#free.delete(size)
      this.#bytes -= freed.length * size
      freeBuffers(freed)
    }
  }
}

/** The memory of tensors, each buffer once. */
export function buffersOf(tensors: Readonly<Record<string, Tensor>>): ArrayBuffer[] {
  return [...new Set(Object.values(tensors).flatMap(({ data }) => (Array.isArray(data) ? [] : [data.buffer])))]
}

/** Bytes of all their elements. */
export function bytesOf(tensors: Readonly<Record<string, Tensor>>): number {
  return Object.values(tensors).reduce((sum, tensor) => sum + byteSize(tensor), 0)
}
