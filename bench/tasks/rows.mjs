// What the tasks have in common: rows written as sample files, and a model's answers to them, batch by batch.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { batchesOf } from '#flyweight/compress/samples.js'
import { writeNpz } from '#flyweight/tensor/npz.js'

/** Rows, equally long, as one .npz in `folder`; `labels` are class indices. */
export function writeRows(folder, { input, rowDims, rows, labels }) {
  mkdirSync(folder, { recursive: true })
  const data = new Float32Array(rows.length * rows[0].length)
  for (const [index, row] of rows.entries()) data.set(row, index * row.length)
  const arrays = new Map([[input, { dtype: 'float32', dims: [rows.length, ...rowDims], data }]])
  if (labels !== undefined) arrays.set('labels', { dtype: 'int64', dims: [rows.length], data: BigInt64Array.from(labels, BigInt) })
  writeFileSync(join(folder, 'rows.npz'), writeNpz(arrays, { compress: false }))
}

/** One answer a row: `answer(values, dims)` gets a row's part of the model's first output. */
export async function answersOf(session, samples, { batch, answer }) {
  const answers = []
  for (const { count, feeds } of batchesOf(samples, batch)) {
    const [{ data, dims }] = Object.values(await session.run(feeds))
    const size = data.length / count
    for (let row = 0; row < count; row++) answers.push(answer(data.subarray(row * size, (row + 1) * size), dims.slice(1)))
  }
  return answers
}

/** Index of the largest of `values`. */
export function argmax(values) {
  let best = 0
  for (let index = 1; index < values.length; index++) if (values[index] > values[best]) best = index
  return best
}

/** Share of the answers that equal the wanted ones. */
export function shareEqual(answers, wanted) {
  return answers.filter((answer, index) => answer === wanted[index]).length / answers.length
}
