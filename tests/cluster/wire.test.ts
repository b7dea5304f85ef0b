// What may be rounded on the way, and what must not.
import { describe, expect, it } from 'vitest'
import { travelsAsHalves } from '#flyweight/cluster/wire.js'

const vector = Float32Array.of(1)

describe('halves', () => {
  it.each([
    [true, { kind: 'bucket', round: 1, step: 0, bucket: 0, vector }],
    [true, { kind: 'reduced', round: 1, step: 0, bucket: 0, vector, exact: false }],
    [false, { kind: 'bucket', round: 1, step: 0, bucket: 1, vector, exact: true }],
    [false, { kind: 'reduced', round: 1, step: 0, bucket: 1, vector, exact: true }],
    [false, { kind: 'slice', round: 1, step: 0, vector }],
    [false, { kind: 'gathered', round: 1, step: 0, vector }],
  ] as const)('%s for %j', (expected, message) => {
    expect(travelsAsHalves(message)).toBe(expected)
  })
})
