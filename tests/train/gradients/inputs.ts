// Random shapes and inputs for gradient checks, in double precision where the runtime has kernels for it.
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../../onnx/running.js'
import type { draws } from './draws.js'

export type Draws = ReturnType<typeof draws>

/** As many seeds as configurations of an operator are checked. */
export const seeds = Array.from({ length: 20 }, (_, index) => index + 1)

/** A shape of few elements. */
export function someDims({ int }: Draws, { least = 0, most = 4 }: { least?: number; most?: number } = {}): number[] {
  return Array.from({ length: int(least, most) }, () => int(1, 4))
}

/** A shape that broadcasts to `dims`: leading axes left out, others of size 1. */
export function broadcastable({ int, chance }: Draws, dims: readonly number[]): number[] {
  return dims.slice(chance() ? 0 : int(0, dims.length)).map((size) => (chance() ? size : 1))
}

/** Uniform between two limits, float64. */
export function uniform(dims: readonly number[], seed: number, [low, high]: readonly [number, number] = [-2, 2]): Tensor {
  const unit = noise(dims, seed * 2654435761).data as Float32Array
  return { dtype: 'float64', dims, data: Float64Array.from(unit, (value) => low + ((value + 1) / 2) * (high - low)) }
}

/** Uniform between two limits, no element within `gap` of a kink, where differences are not the gradient. */
export function awayFrom(kinks: readonly number[], dims: readonly number[], seed: number, limits: readonly [number, number] = [-2, 2], gap = 0.05): Tensor {
  const { data } = uniform(dims, seed, limits)
  const moved = (value: number): number => {
    const near = kinks.find((kink) => Math.abs(value - kink) < gap)
    return near === undefined ? value : near + (value < near ? -gap : gap)
  }
  return { dtype: 'float64', dims, data: (data as Float64Array<ArrayBuffer>).map(moved) }
}

/** Numbers at least `gap` apart, in random order around zero: for operators that compare, so that no difference exchanges an order. */
export function distinct({ int }: Draws, dims: readonly number[], { gap = 0.1, offset = 0 } = {}): Tensor {
  const count = elementCount(dims)
  const values = Array.from({ length: count }, (_, index) => gap * (index - Math.floor(count / 2) + 0.25) + offset)
  for (let last = count - 1; last > 0; last--) {
    const other = int(0, last)
    const kept = values[last] as number
    values[last] = values[other] as number
    values[other] = kept
  }
  return { dtype: 'float64', dims, data: Float64Array.from(values) }
}

export function float32(tensor: Tensor): Tensor {
  return { ...tensor, dtype: 'float32', data: Float32Array.from(tensor.data as Float64Array) }
}
