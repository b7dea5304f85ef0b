// The numbers of affine quantization, real = scale · (q − zeroPoint), as QuantizeLinear of ONNX defines it
// (https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html): rounding half to even, then saturating.

export interface Range {
  min: number
  max: number
}

/** How a tensor of uint8 is read. */
export interface AffineParams {
  scale: number
  zeroPoint: number
}

/** Nearest integer; a value in the middle goes to the even neighbour. */
export function roundHalfEven(value: number): number {
  const rounded = Math.round(value)
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}

export function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value))
}

/** Below this a range holds nothing but rounding noise, and 1 ÷ scale would overflow: such a tensor gets scale 1. */
const TINY_SCALE = 2 ** -100

/** Scale and zero point of uint8 that cover `range` and zero: zero itself must be exact, because padding is made of it. */
export function uint8Params(range: Range): AffineParams {
  const min = Math.min(range.min, 0)
  const max = Math.max(range.max, 0)
  const scale = Math.fround((max - min) / 255)
  if (!(scale > TINY_SCALE) || !Number.isFinite(scale)) return { scale: 1, zeroPoint: 0 }
  return { scale, zeroPoint: clamp(roundHalfEven(-min / scale), 0, 255) }
}

/** Scale of int8 with zero point 0 that covers `range`, −127 to 127. */
export function symmetricScale({ min, max }: Range): number {
  const scale = Math.fround(Math.max(-min, max, 0) / 127)
  return scale > TINY_SCALE && Number.isFinite(scale) ? scale : 1
}

/** Share by which a scale may grow for a shift to fall on a whole step. */
const MOST_GROWTH = 0.1
/** Steps by which a zero may be off. */
const MOST_ERROR = 0.1
/** Share by which a range may grow to hold another zero. */
const MOST_WIDENING = 0.25

/**
 * Parameters for codes that are read twice: as x, and as scale · x + shift, which is 0 at x = `zero`. Both zeros
 * fall on a code, as near as makes no difference. Undefined where that would cost too much resolution.
 */
export function uint8ParamsWithZero(range: Range, zero: number): AffineParams | undefined {
  const widened = { min: Math.min(range.min, zero, 0), max: Math.max(range.max, zero, 0) }
  const width = Math.max(range.max, 0) - Math.min(range.min, 0)
  if (!(widened.max - widened.min <= width * (1 + MOST_WIDENING))) return undefined
  const params = uint8Params(widened)
  const steps = Math.abs(zero) / params.scale
  if (Math.abs(steps - Math.round(steps)) <= MOST_ERROR) return params
  const whole = Math.floor(steps)
  if (whole === 0 || steps / whole > 1 + MOST_GROWTH) return undefined
  const scale = Math.fround(Math.abs(zero) / whole)
  return { scale, zeroPoint: clamp(roundHalfEven(-widened.min / scale), 0, 255) }
}

/** How the codes of x are read as scale · x + shift, scale > 0. */
export function rescaledParams({ scale, zeroPoint }: AffineParams, by: { scale: number; shift: number }): AffineParams {
  const own = Math.fround(scale * by.scale)
  return { scale: own, zeroPoint: clamp(roundHalfEven(zeroPoint - by.shift / own), 0, 255) }
}

/** Codes of `values` under `params`. */
export function toUint8(values: Float32Array, { scale, zeroPoint }: AffineParams): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(values, (value) => clamp(roundHalfEven(value / scale) + zeroPoint, 0, 255))
}

export interface ChannelWeights {
  /** Same layout as the weights. */
  codes: Int8Array<ArrayBuffer>
  /** One a channel; zero points are 0. */
  scales: Float32Array<ArrayBuffer>
}

export interface ChannelOptions {
  dims: readonly number[]
  /** The axis that has one scale an index. */
  axis: number
  /** Largest code: 127, or 63 on CPUs whose u8×s8 products saturate 16 bits. */
  limit: number
  /** Least scale a channel may have, e.g. so that its bias fits into int32. */
  leastScales?: Float32Array
}

/** Symmetric int8 codes, −limit … limit, with one scale a channel. Channels of zeros get the largest scale of the others (or 1). */
export function quantizeChannels(values: Float32Array, { dims, axis, limit, leastScales }: ChannelOptions): ChannelWeights {
  const channels = dims[axis] ?? 1
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  // Plain loops over runs of one channel: models have hundreds of millions of weights.
  const runs = inner === 0 ? 0 : values.length / inner
  const scales = new Float32Array(channels)
  for (let run = 0; run < runs; run++) {
    let largest = scales[run % channels]!
    for (let i = run * inner; i < (run + 1) * inner; i++) largest = Math.max(largest, Math.abs(values[i]!))
    scales[run % channels] = largest
  }
  scales.forEach((largest, channel) => (scales[channel] = Math.max(largest / limit, leastScales?.[channel] ?? 0)))
  const widest = scales.reduce((most, scale) => Math.max(most, scale), 0)
  scales.forEach((scale, channel) => (scales[channel] = scale > TINY_SCALE ? scale : widest > TINY_SCALE ? widest : 1))
  const codes = new Int8Array(values.length)
  for (let run = 0; run < runs; run++) {
    const scale = scales[run % channels]!
    for (let i = run * inner; i < (run + 1) * inner; i++) codes[i] = clamp(roundHalfEven(values[i]! / scale), -limit, limit)
  }
  return { codes, scales }
}
