import { expect, it } from 'vitest'
import { trainingData } from '#flyweight/jobs/training-data.js'
import type { Samples } from '#flyweight/registry/samples.js'

const scores = { name: 'scores', dtype: 'float32' as const, dims: ['n', 3] }

/** Row r is [r, −r]. */
function samples({ labels, alike = 6 }: { labels?: number[]; alike?: number } = {}): Samples {
  return {
    rows: 6,
    digest: 'rows',
    labels: labels && Int32Array.from(labels),
    take: (from, count) => ({
      x: {
        dtype: 'float32',
        dims: [count, 2],
        data: Float32Array.from({ length: 2 * count }, (_, at) => (at % 2 === 0 ? 1 : -1) * (from + Math.floor(at / 2))),
      },
    }),
    alike: () => alike,
  }
}

it('gives rows in the order that they are asked for, labels with them', async () => {
  const { x, labels } = await trainingData(samples({ labels: [0, 1, 2, 0, 1, -1] }), scores).read([5, 0, 2, 2], 0)
  expect(x).toEqual({ dtype: 'float32', dims: [4, 2], data: Float32Array.of(5, -5, 0, -0, 2, -2, 2, -2) })
  expect(labels).toEqual({ dtype: 'int64', dims: [4], data: BigInt64Array.of(-1n, 0n, 2n, 2n) })
})

it('has no labels where the samples have none', async () => {
  expect(Object.keys(await trainingData(samples(), scores).read([1], 0))).toEqual(['x'])
})

it('refuses a label that is no class, and rows of several shapes', () => {
  expect(() => trainingData(samples({ labels: [0, 1, 2, 0, 3, 1] }), scores)).toThrow('labels: row 4 has 3, expected 0 to 2, or below 0 for no label')
  expect(() => trainingData(samples({ alike: 4 }), scores)).toThrow('rows of several shapes: the first 4 of 6')
})
