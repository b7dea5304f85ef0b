// Distillation of what lies inside: which tensors can be compared, that students come closer to the teacher's, and that
// nothing of it stays in the model.
import { describe, expect, it } from 'vitest'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import type { Dataset } from '#flyweight/train/dataset.js'
import { joinFeatures } from '#flyweight/train/features.js'
import type { FeaturePair } from '#flyweight/train/losses/feature-pairs.js'
import { buildNetwork, type NetworkSpec } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { runTraining } from '#flyweight/train/training.js'
import { noise, run } from '../onnx/running.js'

const SIDE = 8
const ROWS = 120
const pixels = noise([ROWS, 1, SIDE, SIDE], 3).data as Float32Array
const images: Dataset = {
  rows: ROWS,
  read: (rows) => ({
    x: {
      dtype: 'float32',
      dims: [rows.length, 1, SIDE, SIDE],
      data: Float32Array.from(rows.flatMap((row) => [...pixels.subarray(row * SIDE ** 2, (row + 1) * SIDE ** 2)])),
    },
  }),
}
const build = (spec: NetworkSpec, seed = 1) => buildNetwork(spec, { input: { name: 'x', dims: [1, SIDE, SIDE] }, output: { name: 'scores', classes: 3 } }, seed)
const cnn = (channels: number[], seed = 1) => build({ kind: 'cnn', channels, hidden: [] }, seed)
const transformer = (width: number, seed = 1) => build({ kind: 'transformer', width, depth: 1, heads: 2, expansion: 2, patch: 4 }, seed)
const mlp = (width: number) => build({ kind: 'mlp', hidden: [width] })

const pair = (teacher: string, student: string, changed: Partial<FeaturePair> = {}): FeaturePair => ({
  ...{ teacher, student, weight: 1, kind: 'mse' as const, projection: false },
  ...changed,
})
const row = { x: noise([1, 1, SIDE, SIDE], 9) }
const join = (student: ReturnType<typeof cnn>, teacher: ReturnType<typeof cnn>, pairs: FeaturePair[]) =>
  joinFeatures({ student, teacher }, { pairs, feeds: row, seed: 1 })

describe('tensors are made comparable', () => {
  it.each([
    ['of one shape as they are', cnn([4, 6]), cnn([4, 6], 2), pair('block1.relu', 'block1.relu'), []],
    ['of other widths by a projection', cnn([3, 6]), cnn([4, 6], 2), pair('block1.relu', 'block1.relu'), [[4, 3, 1, 1]]],
    ['of one width by a projection where wanted', cnn([4, 6]), cnn([4, 6], 2), pair('block1.relu', 'block1.relu', { projection: true }), [[4, 4, 1, 1]]],
    ['by means of the student over positions', cnn([3, 6]), cnn([4, 6], 2), pair('block2.relu', 'block1.relu'), [[6, 3, 1, 1]]],
    ['by means of the teacher over positions', cnn([3, 6]), cnn([4, 6], 2), pair('block1.relu', 'block2.relu'), [[4, 6, 1, 1]]],
    ['of tokens along the last axis', transformer(4), transformer(8, 2), pair('block1', 'block1'), [[4, 8]]],
    ['of a layer and a map by the mean over positions', mlp(5), cnn([4, 6], 2), pair('block2.relu', 'dense1.relu'), [[5, 6]]],
  ])('%s', async (_what, student, teacher, one, projections) => {
    const features = await join(student, teacher, [one])
    const known = new Set(student.graph.initializer.map(({ name }) => name))
    const added = features.student.graph.initializer.filter(({ name, dataType }) => !known.has(name) && dataType === 1)
    expect(added.map(({ dims }) => dims.map(Number))).toEqual(projections)
    const [compared] = features.pairs
    const own = (await run(features.student, row))[compared?.prediction ?? '']
    const wanted = (await run(features.teacher, row))[features.outputs[0] ?? '']
    expect(own?.dims).toEqual(wanted?.dims)
    const stripped = features.strip(features.student)
    expect(stripped.graph.initializer).toEqual(student.graph.initializer)
    expect(stripped.graph.output).toEqual(student.graph.output)
    expect(await run(stripped, row)).toEqual(await run(student, row))
  })

  it('by exact means', async () => {
    const features = await join(cnn([3, 6]), cnn([6, 6], 2), [pair('block1.relu', 'block2.relu')])
    const teacher = await run(await withOutput(cnn([6, 6], 2), 'block1.relu'), row)
    const whole = teacher['block1.relu']?.data as Float32Array
    const pooled = (await run(features.teacher, row))[features.outputs[0] ?? ''] as Tensor
    expect(pooled.dims).toEqual([1, 6, 4, 4])
    // The first channel, second row of windows, third column.
    const at = (y: number, x: number) => whole[y * SIDE + x] as number
    expect(pooled.data[1 * 4 + 2]).toBeCloseTo((at(2, 4) + at(2, 5) + at(3, 4) + at(3, 5)) / 4, 5)
  })

  it.each([
    [
      'another name',
      pair('block1.relu', 'blok1.relu'),
      '/loss/features/0/student: got "blok1.relu", expected the name of a float tensor of 2 to 4 axes, rows first, as "block1.relu"',
    ],
    ['another name in the teacher', pair('block2.relux', 'block1.relu'), '/loss/features/0/teacher: got "block2.relux"'],
  ])('but not by %s', async (_what, one, message) => {
    await expect(join(cnn([3, 6]), cnn([4, 6], 2), [one])).rejects.toThrow(message)
  })

  it('but not maps with tokens', async () => {
    await expect(join(transformer(8), cnn([8]), [pair('block1.relu', 'block1')])).rejects.toThrow(
      '/loss/features/0: got "block1" [1, 4, 8] and "block1.relu" [1, 8, 8, 8] for one row, expected positions',
    )
  })
})

async function withOutput(model: ReturnType<typeof cnn>, name: string): Promise<ReturnType<typeof cnn>> {
  return (await joinFeatures({ student: model, teacher: model }, { pairs: [pair(name, name)], feeds: row, seed: 1 })).teacher
}

describe('a training', () => {
  const teacher = cnn([6, 8], 5)
  const settings = (features: object[]) =>
    completeSettings({ epochs: 12, batchSize: 30, learningRate: 0.01, holdOut: 0.25, loss: { kind: 'distillation', features } })
  const distill = (features: object[]) =>
    runTraining({
      model: teacher,
      output: 'scores',
      data: images,
      student: { kind: 'cnn', channels: [4, 8], hidden: [] },
      settings: settings(features),
      threads: 1,
    })

  it.each([['mse'], ['cosine']])('brings tensors inside the student closer to the teacher’s, by %s', async (kind) => {
    const pairs = [{ teacher: 'block2.relu', student: 'block2.relu', weight: 5, kind }]
    const { model, curve, parameters } = await distill(pairs)
    const first = curve[0]?.heldOut.loss as number
    expect(curve.at(-1)?.heldOut.loss).toBeLessThan(first * 0.8)
    // Both have eight channels: they compare as they are.
    const apart = async (student: ReturnType<typeof cnn>) => {
      const [own, wanted] = [await run(await withOutput(student, 'block2.relu'), row), await run(await withOutput(teacher, 'block2.relu'), row)]
      const [a, b] = [own['block2.relu']?.data as Float32Array, wanted['block2.relu']?.data as Float32Array]
      const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, index) => sum + value * (y[index] as number), 0)
      return 1 - dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
    }
    const plain = (await distill([])).model
    expect(await apart(model)).toBeLessThan((await apart(plain)) * 0.8)
    expect(model.graph.output.map(({ name }) => name)).toEqual(['scores'])
    expect(parameters).toBe(4 * 9 + 2 * 4 + 8 * 4 * 9 + 2 * 8 + 8 * 3 + 3)
  })

  it('learns projections, which do not stay', async () => {
    const { model, curve, parameters } = await distill([{ teacher: 'block1.relu', student: 'block1.relu' }])
    expect(curve.at(-1)?.heldOut.loss).toBeLessThan(curve[0]?.heldOut.loss as number)
    expect(model.graph.initializer.some(({ name }) => name.includes('projection'))).toBe(false)
    expect(parameters).toBe(4 * 9 + 2 * 4 + 8 * 4 * 9 + 2 * 8 + 8 * 3 + 3)
  })

  it('does the same in stages, whichever of them the tensors are in', async () => {
    const losses = async (more: object) => {
      const features = [{ teacher: 'block1.relu', student: 'block1.relu' }]
      const given = { epochs: 2, batchSize: 30, learningRate: 0.01, holdOut: 0.25, loss: { kind: 'distillation', features }, ...more }
      const student = { kind: 'cnn' as const, channels: [4, 8], hidden: [] }
      const { curve } = await runTraining({ model: teacher, output: 'scores', data: images, student, settings: completeSettings(given), threads: 1 })
      return curve.map(({ loss }) => loss)
    }
    const [alone, staged] = [await losses({ parts: 3 }), await losses({ parallel: { pipeline: 2, microBatches: 3 } })]
    for (const [epoch, loss] of alone.entries()) expect(staged[epoch]).toBeCloseTo(loss, 4)
  })

  it('without a student has no features to learn from', async () => {
    await expect(runTraining({ model: teacher, output: 'scores', data: images, settings: settings([]), threads: 1 })).rejects.toThrow(
      '/loss/kind: got distillation, which needs a student',
    )
  })
})
