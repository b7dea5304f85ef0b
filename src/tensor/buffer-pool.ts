// Memory of batches, used again. A new buffer starts with pages the system has yet to supply, one by one as they
// are written, on the thread that answers requests; one that was used before has them.

/** Smaller ones come from the allocator's own stock (runtime/malloc.ts). */
const SMALLEST = 2 ** 19

export class BufferPool {
  readonly #capacityBytes: number
  readonly #free = new Map<number, ArrayBuffer[]>()
  #bytes = 0

  /** @param capacityBytes what may lie unused at most; what is given beyond that is left to the garbage collector */
  constructor(capacityBytes: number) {
    this.#capacityBytes = capacityBytes
  }

  /** A buffer of `byteLength` bytes or more; whatever it held before is still in it. */
  take(byteLength: number): ArrayBuffer {
    if (byteLength < SMALLEST) return new ArrayBuffer(byteLength)
    // Few sizes, so that batches of other rows and models find one.
    const size = 2 ** Math.ceil(Math.log2(byteLength))
    const buffer = this.#free.get(size)?.pop()
    if (buffer === undefined) return new ArrayBuffer(size)
    this.#bytes -= size
    return buffer
  }

  /** Nobody else may hold `buffer`. One that could not be given out again is not kept: of a size that take() does not make. */
  give(buffer: ArrayBuffer): void {
    const size = buffer.byteLength
    if (!isPooled(size) || this.#bytes + size > this.#capacityBytes) return
    const free = this.#free.get(size)
    if (free === undefined) this.#free.set(size, [buffer])
    else free.push(buffer)
    this.#bytes += size
  }
}

/** Whether a buffer of this size may be one of a pool. */
export function isPooled(byteLength: number): boolean {
  return byteLength >= SMALLEST && Number.isInteger(Math.log2(byteLength))
}
