import { viewBytes } from '#flyweight/tensor/tensor.js'
import { describe, expect, it } from 'vitest'

describe('viewBytes', () => {
  it.each([0, 1, 2, 3, 4, 7])('reads a Buffer that starts %d bytes into its memory', (offset) => {
    const memory = Buffer.from(new ArrayBuffer(64))
    for (const [index, value] of [1.5, -2.5, 3.25].entries()) memory.writeFloatLE(value, offset + index * 4)
    const view = viewBytes('float32', memory.subarray(offset, offset + 12))
    expect([...view]).toEqual([1.5, -2.5, 3.25])
  })
})
