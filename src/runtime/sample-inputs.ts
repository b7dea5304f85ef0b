// Seeded synthetic feeds for models whose real inputs nobody gave: probation, profiles and, as a
// marked last resort, fidelity. Values are noise; only shapes and types are meant to be realistic.
import { float16From } from '../tensor/float16.js'
import { allocate, elementCount, type NumericArray, type Tensor, type TensorData, type TensorSpec } from '../tensor/tensor.js'

export interface SyntheticOptions {
  /** Rows, for free first dimensions and for every dimension of the same name. */
  batch: number
  seed: number
  /** Size of every other free dimension; default 16. */
  freeDim?: number | ((dim: number | string, axis: number, input: TensorSpec) => number)
}

/**
 * One tensor per input. Floats are normal noise, integers 0 or 1 (valid as token ids, masks and
 * lengths alike), strings `a`. The same options give the same values.
 */
export function syntheticFeeds(inputs: readonly TensorSpec[], options: SyntheticOptions): Record<string, Tensor> {
  const random = mulberry32(options.seed)
  const batchNames = new Set(inputs.map(({ dims }) => dims[0]).filter((dim) => typeof dim === 'string'))
  return Object.fromEntries(
    inputs.map((input) => {
      const dims = input.dims.map((dim, axis) => (batchNames.has(dim as string) ? options.batch : chooseDim(dim, axis, input, options)))
      return [input.name, { dtype: input.dtype, dims, data: noise(input, elementCount(dims), random) }]
    }),
  )
}

function chooseDim(dim: number | string, axis: number, input: TensorSpec, { batch, freeDim = 16 }: SyntheticOptions): number {
  if (typeof dim === 'number' && dim >= 0) return dim
  if (axis === 0) return batch
  return typeof freeDim === 'number' ? freeDim : freeDim(dim, axis, input)
}

function noise({ dtype }: TensorSpec, count: number, random: () => number): TensorData {
  if (dtype === 'string') return new Array<string>(count).fill('a')
  if (dtype === 'float16') return float16From(Float32Array.from({ length: count }, () => normal(random)))
  const data = allocate(dtype, count) as NumericArray
  if (data instanceof Float32Array || data instanceof Float64Array) {
    for (let i = 0; i < count; i++) data[i] = normal(random)
  } else if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    for (let i = 0; i < count; i++) data[i] = random() < 0.5 ? 0n : 1n
  } else {
    // bfloat16 patterns 0 and 1 are zero and a subnormal: harmless, and no kernel here computes in it.
    for (let i = 0; i < count; i++) data[i] = random() < 0.5 ? 0 : 1
  }
  return data
}

/** Irwin-Hall of four uniforms, scaled to variance 1: near enough to normal, and bounded by ±3.5. */
function normal(random: () => number): number {
  return (random() + random() + random() + random() - 2) * Math.sqrt(3)
}

/** Mulberry32 (Tommy Ettinger, public domain): 32 bits of state, uniform in [0, 1). */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** `count` copies of one row, in memory of their own: every first dimension becomes `count`, and must be 1 unless `count` is. */
export function tileRows(row: Readonly<Record<string, Tensor>>, count: number): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(row).map(([name, { dtype, dims, data }]) => {
      const tiled = allocate(dtype, data.length * count)
      for (let i = 0; i < tiled.length; i++) tiled[i] = data[i % data.length] as never
      return [name, { dtype, dims: count === 1 ? dims : [count, ...dims.slice(1)], data: tiled }]
    }),
  )
}
