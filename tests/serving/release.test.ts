// Outputs of a batch share memory: it is freed when the last of its requests has been answered, not before.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { scaleModel } from '../scale-model.js'
import { countingModel, filled, startApp, times, valuesOf, type TestApp } from './app.js'

let app: TestApp
beforeAll(async () => {
  app = await startApp({ 'scale/1/model.onnx': scaleModel(2), 'scale/model.yaml': 'policy: { onDemand: [] }\n', 'count/1/model.onnx': countingModel() })
})
afterAll(() => app.stop())

it('frees the memory of a batch with its last answer', async () => {
  const busy = app.infer('count', { inputs: times(200_000) })
  const answers = await Promise.all([1, 2, 3].map((value) => app.infer('scale', { inputs: filled(value) })))
  await busy
  expect(answers.map(({ timing }) => timing.batchSize)).toEqual([3, 3, 3])
  answers[0]!.release()
  answers[1]!.release()
  expect(answers.map(valuesOf)).toEqual([2, 4, 6].map((value) => [value, value, value, value]))
  answers[2]!.release()
  expect(answers.map(({ outputs }) => outputs['y']!.data.length)).toEqual([0, 0, 0])
})
