// Running models in tests: seeded inputs, one run, and a comparison that says where outputs differ.
import { encodeModel, type ModelProto } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'

/** Uniform in [-1, 1), the same for the same seed. */
export function noise(dims: readonly number[], seed = 1): Tensor {
  let state = seed >>> 0
  const data = Float32Array.from({ length: elementCount(dims) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
  return { dtype: 'float32', dims, data }
}

export function floats(dims: readonly number[], values: readonly number[]): Tensor {
  return { dtype: 'float32', dims, data: Float32Array.from(values) }
}

export function int64s(dims: readonly number[], values: readonly number[]): Tensor {
  return { dtype: 'int64', dims, data: BigInt64Array.from(values, BigInt) }
}

export async function run(model: ModelProto, feeds: Record<string, Tensor>, optimization: 'disabled' | 'all' = 'disabled'): Promise<Record<string, Tensor>> {
  const session = await openSession(encodeModel(model), { optimization })
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

/** Largest absolute difference over all outputs; 0 means bitwise equal. Throws when names, types or dims differ. */
export function largestDifference(a: Record<string, Tensor>, b: Record<string, Tensor>): number {
  const shape = (tensors: Record<string, Tensor>) => JSON.stringify(Object.entries(tensors).map(([name, { dtype, dims }]) => [name, dtype, dims]))
  if (shape(a) !== shape(b)) throw new Error(`outputs differ in shape: ${shape(a)} and ${shape(b)}`)
  let largest = 0
  for (const [name, { data }] of Object.entries(a)) {
    const other = (b[name] as Tensor).data
    for (let i = 0; i < data.length; i++) {
      if (Object.is(data[i], other[i])) continue
      largest = Math.max(largest, Math.abs(Number(data[i]) - Number(other[i])) || Number.MIN_VALUE)
    }
  }
  return largest
}
