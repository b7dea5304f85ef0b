// Judging on held-out rows: what the loss of a whole set is where it is computed batch by batch.
import { expect, it } from 'vitest'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import type { Dataset } from '#flyweight/train/dataset.js'
import { evaluate, labelledRows } from '#flyweight/train/evaluate.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { noise } from '../onnx/running.js'

const CLASSES = 3
const scores = noise([10, CLASSES], 5).data as Float32Array
/** Rows of two batches of four and one of two; the second has one label only. */
const labels = [0, 2, 1, 1, -1, -1, 2, -1, 0, 1]

const same = model({
  inputs: [valueInfo('x', 'float32', ['n', CLASSES])],
  outputs: [valueInfo('y', 'float32', ['n', CLASSES])],
  nodes: [node('Identity', ['x'], ['y'])],
})

function rows(given: readonly number[]): Dataset {
  return {
    rows: given.length,
    read: (chosen) => ({
      x: {
        dtype: 'float32',
        dims: [chosen.length, CLASSES],
        data: Float32Array.from(chosen.flatMap((row) => [...scores.subarray(row * CLASSES, (row + 1) * CLASSES)])),
      },
      labels: { dtype: 'int64', dims: [chosen.length], data: BigInt64Array.from(chosen, (row) => BigInt(given[row] as number)) },
    }),
  }
}

const crossEntropy = lossOf({ kind: 'cross-entropy' })
const judge = (given: readonly number[]) =>
  evaluate({
    model: same,
    data: rows(given),
    loss: (emit, tensors) => crossEntropy(emit, { prediction: 'y', target: 'labels', tensors }),
    batchSize: 4,
    output: 'y',
    counted: labelledRows,
  })

it('is the mean over labelled rows, however they lie in batches', async () => {
  const losses = labels.flatMap((label, row) => {
    const own = [...scores.subarray(row * CLASSES, (row + 1) * CLASSES)]
    return label < 0 ? [] : [Math.log(own.reduce((sum, score) => sum + Math.exp(score), 0)) - (own[label] as number)]
  })
  const { loss, accuracy } = await judge(labels)
  expect(loss).toBeCloseTo(losses.reduce((sum, one) => sum + one, 0) / 7, 6)
  expect(accuracy).toBeDefined()
})

it('is zero without any label', async () => {
  expect(await judge([-1, -1, -1])).toEqual({ loss: 0 })
})
