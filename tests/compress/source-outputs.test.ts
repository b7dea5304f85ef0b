// Outputs of the source model that comparisons have in common: computed once, as long as they fit.
import { describe, expect, it } from 'vitest'
import { keptOutputs } from '#flyweight/compress/source-outputs.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

const outputs = (value: number): Record<string, Tensor> => ({ y: { dtype: 'float32', dims: [4], data: new Float32Array(4).fill(value) } })

describe('keptOutputs', () => {
  it('runs the model once for a batch, again for another', async () => {
    const kept = keptOutputs(1000)
    const runs: number[] = []
    const at = (from: number) => kept.of(from, () => Promise.resolve(outputs(runs.push(from))))
    const first = await at(0)
    expect(await at(8)).not.toBe(first)
    expect(await at(0)).toBe(first)
    expect(runs).toEqual([0, 8])
  })

  it('keeps no more than it may, and goes on to give what it does not keep', async () => {
    const kept = keptOutputs(40)
    const runs: number[] = []
    const at = (from: number) => kept.of(from, () => Promise.resolve(outputs(runs.push(from))))
    for (const from of [0, 1, 2, 0, 1, 2]) await at(from)
    expect(runs).toEqual([0, 1, 2, 2])
  })
})
