// Inputs for operators that compare: no two elements are near enough for a difference to exchange their order.
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'
import { draws } from './draws.js'

/** A random order of numbers `gap` apart, around zero. */
export function spaced(dims: readonly number[], seed: number, gap = 0.1): Tensor {
  const count = elementCount(dims)
  const { int } = draws(seed)
  const data = Float32Array.from({ length: count }, (_, index) => gap * (index - count / 2 + 0.25))
  for (let last = count - 1; last > 0; last--) {
    const other = int(0, last)
    const kept = data[last] as number
    data[last] = data[other] as number
    data[other] = kept
  }
  return { dtype: 'float32', dims, data }
}
