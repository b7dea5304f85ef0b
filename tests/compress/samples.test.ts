// Dividing samples: no row on both sides, every row on one, labels with their rows; and batches of one shape.
import { describe, expect, it } from 'vitest'
import { batchesOf, holdOut, type Samples } from '#flyweight/compress/samples.js'
import { floats } from '../onnx/running.js'

const numbered = (rows: number, changes: Partial<Samples> = {}): Samples => ({
  rows,
  digest: 'd',
  labels: Int32Array.from({ length: rows }, (_, row) => 100 + row),
  take: (from, count) => ({
    x: floats(
      [count, 1],
      Array.from({ length: count }, (_, index) => from + index),
    ),
  }),
  ...changes,
})
const all = (samples: Samples, batch: number) => [...batchesOf(samples, batch)].flatMap(({ feeds }) => [...(feeds['x']!.data as Float32Array)])

describe('holding out', () => {
  it.each([16, 17, 40])('divides %i rows, labels with them', (rows) => {
    const { calibration, evaluation, heldOut } = holdOut(numbered(rows))
    expect(heldOut).toBe(true)
    for (const part of [calibration, evaluation]) {
      for (const batch of [1, 3, 64]) {
        expect(all(part, batch)).toEqual(Array.from(part.labels!, (label) => label - 100))
      }
    }
    const both = [...all(calibration, 4), ...all(evaluation, 4)]
    expect(both.toSorted((a, b) => a - b)).toEqual(Array.from({ length: rows }, (_, row) => row))
    expect(Math.abs(calibration.rows - evaluation.rows)).toBeLessThanOrEqual(1)
    expect(new Set([calibration.digest, evaluation.digest]).size).toBe(2)
  })

  it.each([
    ['alternate', (row: number) => row % 2],
    ['come in pairs', (row: number) => Math.floor(row / 2) % 2],
    ['are sorted', (row: number) => Math.floor(row / 16)],
  ])('gives both halves their share of classes that %s', (_, labelOf) => {
    const { calibration, evaluation } = holdOut(numbered(32, { labels: Int32Array.from({ length: 32 }, (_label, row) => labelOf(row)) }))
    for (const { labels } of [calibration, evaluation]) expect(Array.from(labels!).filter((label) => label === 1)).toHaveLength(8)
  })

  it('uses too few rows for both', () => {
    const samples = numbered(15)
    expect(holdOut(samples)).toEqual({ calibration: samples, evaluation: samples, heldOut: false })
  })
})

describe('batches', () => {
  // Rows 0–4 are of one shape, 5–17 of another.
  const mixed = numbered(18, { alike: (from, most) => Math.min(most, from < 5 ? 5 - from : 18 - from) })

  it('break where the shape changes', () => {
    expect([...batchesOf(mixed, 4)].map(({ from, count }) => [from, count])).toEqual([
      [0, 4],
      [4, 1],
      [5, 4],
      [9, 4],
      [13, 4],
      [17, 1],
    ])
    expect([...batchesOf(mixed, 4, 6)].map(({ count }) => count)).toEqual([4, 1, 1])
  })

  it('break there in either part too', () => {
    const { calibration, evaluation } = holdOut(mixed)
    // Rows 0, 3 | 5 … 17 and rows 1, 2, 4 | 7 … 16.
    expect([...batchesOf(calibration, 4)].map(({ count }) => count)).toEqual([2, 4, 3])
    expect([...batchesOf(evaluation, 4)].map(({ count }) => count)).toEqual([3, 4, 2])
  })
})
