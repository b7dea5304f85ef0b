import { describe, expect, it } from 'vitest'
import { withAugmentation } from '#flyweight/train/augment.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import type { Dataset } from '#flyweight/train/dataset.js'

const [HEIGHT, WIDTH] = [5, 6]
/** Image of row r: one pixel of value r + 1 in the middle of nothing. */
const data: Dataset = {
  rows: 40,
  read: (rows) => {
    const pixels = new Float32Array(rows.length * HEIGHT * WIDTH)
    for (const [index, row] of rows.entries()) pixels[index * HEIGHT * WIDTH + 2 * WIDTH + 2] = row + 1
    return { x: { dtype: 'float32', dims: [rows.length, 1, HEIGHT, WIDTH], data: pixels } }
  },
}
const all = Array.from({ length: 40 }, (_, row) => row)

async function places(options: { shift: number; mirror: boolean }, position = 0, seed = 1): Promise<{ y: number; x: number; value: number }[]> {
  const { x } = await withAugmentation(data, 'x', options, seed).read(all, position)
  return all.flatMap((row) => {
    const image = ((x as Tensor).data as Float32Array).subarray(row * HEIGHT * WIDTH, (row + 1) * HEIGHT * WIDTH)
    return [...image].flatMap((value, at) => (value === 0 ? [] : [{ y: Math.floor(at / WIDTH), x: at % WIDTH, value }]))
  })
}

describe('augmented images', () => {
  it('move by at most the shift, in every direction, whole', async () => {
    const found = await places({ shift: 1, mirror: false })
    expect(found.map(({ value }) => value)).toEqual(all.map((row) => row + 1))
    expect(new Set(found.map(({ y }) => y))).toEqual(new Set([1, 2, 3]))
    expect(new Set(found.map(({ x }) => x))).toEqual(new Set([1, 2, 3]))
  })

  it('are mirrored in about half of the cases', async () => {
    const mirrored = (await places({ shift: 0, mirror: true })).filter(({ x }) => x === WIDTH - 1 - 2).length
    expect(mirrored).toBeGreaterThan(10)
    expect(mirrored).toBeLessThan(30)
  })

  it('are the same for the same seed and position, and others otherwise', async () => {
    const options = { shift: 2, mirror: true }
    expect(await places(options, 80)).toEqual(await places(options, 80))
    expect(await places(options, 80)).not.toEqual(await places(options, 120))
    expect(await places(options, 80)).not.toEqual(await places(options, 80, 2))
  })

  it('must be images', async () => {
    const rows: Dataset = { rows: 1, read: () => ({ x: { dtype: 'float32', dims: [1, 3], data: Float32Array.of(1, 2, 3) } }) }
    await expect(async () => withAugmentation(rows, 'x', { shift: 1, mirror: false }, 1).read([0], 0)).rejects.toThrow('got rows of dims [3]')
  })
})
