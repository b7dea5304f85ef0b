// What a stage holds between passes.
import { describe, expect, it } from 'vitest'
import { HeldValues } from '#flyweight/train/pipeline/held-values.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

const tensor = (count: number): Tensor => ({ dtype: 'float32', dims: [count], data: new Float32Array(count) })

describe('values of a micro-batch', () => {
  it('are waited for, whatever comes before them', async () => {
    const held = new HeldValues()
    const taken = held.take(3, 1, ['a', 'b'])
    held.put({ step: 3, micro: 0, tensors: { a: tensor(1), b: tensor(1) } })
    held.put({ step: 3, micro: 1, tensors: { a: tensor(2) } })
    held.put({ step: 3, micro: 1, tensors: { b: tensor(3), c: tensor(4) } })
    expect(await taken).toEqual({ a: tensor(2), b: tensor(3) })
  })

  it('count from the forward to the backward pass, where they are kept', async () => {
    const held = new HeldValues()
    for (const micro of [0, 1]) {
      held.put({ step: 0, micro, tensors: { kept: tensor(10), other: tensor(1000) } })
      held.stash(0, micro, new Set(['kept']))
    }
    expect(held.peakStashBytes).toBe(80)
    await expect(Promise.race([held.take(0, 0, ['other']), Promise.resolve('gone')])).resolves.toBe('gone')
    held.put({ step: 0, micro: 0, tensors: { gradient: tensor(1000) } })
    held.forget(0, 0)
    held.forget(0, 1)
    held.put({ step: 0, micro: 2, tensors: { kept: tensor(10) } })
    held.stash(0, 2, new Set(['kept']))
    expect(held.peakStashBytes).toBe(80)
  })

  it('come no more once the training is abandoned', async () => {
    const held = new HeldValues()
    const waiting = held.take(0, 0, ['a'])
    held.abandon()
    await expect(waiting).rejects.toThrow('the training was abandoned')
    await expect(held.take(0, 0, [])).rejects.toThrow('the training was abandoned')
  })
})
