// Sums over rows of a layer's system, group by group, and what changes of its weights make of rows: products of float64
// matrices, which the runtime computes many times as fast as loops do.
import { node, model, valueInfo } from '../../onnx/builder.js'
import { encodeModel } from '../../onnx/proto.js'
import { openSession, type Session } from '../../runtime/session.js'
import type { Tensor } from '../../tensor/tensor.js'
import type { Layer } from './layer.js'
import type { Change, GroupMoments } from './least-squares.js'
import type { Rows } from './unfold.js'

/** `left`ᵀ · `right`, matrix by matrix: [groups, inner, a] and [groups, inner, b] to [groups, a, b]. */
export interface Multiplier {
  multiply(left: Tensor, right: Tensor): Promise<Float64Array>
  release(): Promise<void>
}

export async function openMultiplier(threads: number): Promise<Multiplier> {
  const matrices = (name: string, rows: string, columns: string) => valueInfo(name, 'float64', ['groups', rows, columns])
  const session: Session = await openSession(
    encodeModel(
      model({
        inputs: [matrices('left', 'inner', 'a'), matrices('right', 'inner', 'b')],
        outputs: [matrices('product', 'a', 'b')],
        nodes: [node('Transpose', ['left'], ['flipped'], { attributes: { perm: [0, 2, 1] } }), node('MatMul', ['flipped', 'right'], ['product'])],
      }),
    ),
    { threads },
  )
  return {
    multiply: async (left, right) => (await session.run({ left, right }))['product']!.data as Float64Array,
    release: () => session.release(),
  }
}

export function emptyMoments({ groups, width, rows }: Layer): GroupMoments[] {
  return Array.from({ length: groups }, () => ({
    count: 0,
    width,
    rows,
    squares: new Float64Array(width * width),
    products: new Float64Array(width * rows),
    inputs: new Float64Array(width),
    residuals: new Float64Array(rows),
  }))
}

export async function addRows(moments: readonly GroupMoments[], { count, inputs, residuals }: Rows, multiplier: Multiplier): Promise<void> {
  const { width, rows } = moments[0]!
  const [x, r] = [matrices(moments.length, count, width, inputs), matrices(moments.length, count, rows, residuals)]
  const [squares, products] = [await multiplier.multiply(x, x), await multiplier.multiply(x, r)]
  for (const [group, sums] of moments.entries()) {
    sums.count += count
    addTo(sums.squares, squares, group * width * width)
    addTo(sums.products, products, group * width * rows)
    for (let i = 0; i < count; i++) {
      addTo(sums.inputs, inputs, (group * count + i) * width)
      addTo(sums.residuals, residuals, (group * count + i) * rows)
    }
  }
}

/** Σ residual² over rows when a layer is changed; without `changes`, as it is. */
export async function squaredError(
  { groups, width, rows }: Layer,
  held: readonly Rows[],
  multiplier: Multiplier,
  changes?: readonly Change[],
): Promise<number> {
  let sum = 0
  for (const { count, inputs, residuals } of held) {
    let predicted: Float64Array = new Float64Array(0)
    if (changes !== undefined) {
      const columns = new Float64Array(groups * width * rows)
      for (const [group, { weights }] of changes.entries())
        for (let row = 0; row < rows; row++) for (let i = 0; i < width; i++) columns[(group * width + i) * rows + row] = weights[row * width + i]!
      predicted = await multiplier.multiply(flipped(groups, count, width, inputs), matrices(groups, width, rows, columns))
    }
    for (let i = 0; i < residuals.length; i++) {
      const bias = changes?.[Math.floor(i / (rows * count))]!.bias[i % rows] ?? 0
      sum += (residuals[i]! - (predicted[i] ?? 0) - bias) ** 2
    }
  }
  return sum
}

function matrices(groups: number, rows: number, columns: number, data: Float64Array<ArrayBuffer>): Tensor {
  return { dtype: 'float64', dims: [groups, rows, columns], data }
}

function flipped(groups: number, rows: number, columns: number, data: Float64Array<ArrayBuffer>): Tensor {
  const result = new Float64Array(data.length)
  for (let group = 0; group < groups; group++) {
    const first = group * rows * columns
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) result[first + column * rows + row] = data[first + row * columns + column]!
  }
  return matrices(groups, columns, rows, result)
}

function addTo(sum: Float64Array, values: Float64Array, from: number): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += values[from + i]!
}
