// Students that exist: they learn, and those that do not fit are refused with what came and what was expected.
import { describe, expect, it } from 'vitest'
import { node, valueInfo } from '#flyweight/onnx/builder.js'
import type { Dataset } from '#flyweight/train/dataset.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { runTraining } from '#flyweight/train/training.js'
import type { Model } from '#flyweight/train/training-form.js'
import { noise } from '../onnx/running.js'

const points = noise([300, 4], 3).data as Float32Array
const data: Dataset = {
  rows: 300,
  read: (rows) => ({
    x: { dtype: 'float32', dims: [rows.length, 4], data: Float32Array.from(rows.flatMap((row) => [...points.subarray(4 * row, 4 * row + 4)])) },
  }),
}

const network = ({ hidden = [8], inputs = 4, classes = 3, input = 'x', output = 'scores', seed = 1 } = {}) =>
  buildNetwork({ kind: 'mlp', hidden }, { input: { name: input, dims: [inputs] }, output: { name: output, classes } }, seed)

const distill = (student: Model, loss?: object) =>
  runTraining({
    model: network({ hidden: [16], seed: 7 }),
    output: 'scores',
    data,
    student: { kind: 'given', model: student },
    settings: completeSettings({ epochs: 30, batchSize: 30, learningRate: 0.02, holdOut: 0.25, ...(loss === undefined ? {} : { loss }) }),
    threads: 1,
  })

describe('a student that exists', () => {
  it('goes on from its own weights, and keeps its own name of its output', async () => {
    const student = network({ output: 'guess', seed: 2 })
    const { curve, model, parameters } = await distill(student)
    expect(curve.at(-1)?.heldOut.loss).toBeLessThan((curve[0]?.heldOut.loss as number) / 3)
    expect(model.graph.output.map(({ name }) => name)).toEqual(['guess'])
    expect(parameters).toBe(4 * 8 + 8 + 8 * 3 + 3)
  })

  it('has nothing to learn where it is the teacher already', async () => {
    const { curve } = await distill(network({ hidden: [16], seed: 7 }))
    expect(curve.at(-1)?.heldOut.loss).toBeLessThan(1e-4)
  })

  it.each([
    ['another input', network({ input: 'image' }), '/student: its inputs are float32 "image" [batch, 4], expected the teacher\'s, float32 "x" [batch, 4]'],
    ['another width', network({ inputs: 5 }), '/student: it cannot run on a row of the data, "x" [1, 4]'],
    ['other classes', network({ classes: 5 }), '/student: its output "scores" is float32 [1, 5] for one row, expected float32 [1, 3]'],
  ])('is refused with %s', async (_what, student, message) => {
    await expect(distill(student)).rejects.toThrow(message)
  })

  it('is refused with whole numbers for scores', async () => {
    const student = network({ hidden: [] })
    student.graph.node.push(node('ArgMax', ['scores'], ['class'], { attributes: { axis: 1 } }))
    student.graph.output = [valueInfo('class', 'int64', ['batch', 1])]
    await expect(distill(student)).rejects.toThrow('/student: its output "class" is int64 [1, 1]')
  })
})
