// Gives the memory of a run's outputs back at once. The runtime lends its own memory to JavaScript until the
// garbage collector comes by; until then each run maps fresh pages, which can take as long as the run, and
// every 64 MiB of such memory make V8 collect garbage.
import type { Tensor } from '../tensor/tensor.js'

// What is moved into a port whose other end is closed is gone.
const { port1: nowhere, port2: end } = new MessageChannel()
end.close()

/** Nobody may read `outputs` afterwards: their arrays are empty. Harmless for outputs that are gone already. */
export function freeOutputs(outputs: Readonly<Record<string, Tensor>>): void {
  freeBuffers(Object.values(outputs).flatMap(({ data }) => (Array.isArray(data) ? [] : [data.buffer])))
}

/** Nobody may read `given` afterwards; those that moved away already stay untouched. */
export function freeBuffers(given: readonly ArrayBuffer[]): void {
  const buffers = new Set(given.filter(({ byteLength }) => byteLength > 0))
  if (buffers.size === 0) return
  try {
    nowhere.postMessage(undefined, [...buffers])
  } catch {
    // Memory that cannot be moved stays until the garbage collector comes by.
  }
}
