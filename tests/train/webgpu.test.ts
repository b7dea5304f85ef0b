// Training on a GPU, or what stands for one: skipped where no WebGPU device answers.
import { expect, it } from 'vitest'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { dtypes } from '#flyweight/tensor/tensor.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { optimizerOf } from '#flyweight/train/optimizers/table.js'
import { train, type TrainOptions } from '#flyweight/train/trainer.js'
import { circle, network } from './circle.js'
import { floats } from '../onnx/running.js'

const DEVICE = 'webgpu:0'

/** Why tensors of a type cannot be computed with; undefined where they can. */
async function missing(dtype: 'float32' | 'float16'): Promise<string | undefined> {
  const cast = (from: string, to: string, type: typeof dtype) => node('Cast', [from], [to], { attributes: { to: dtypes[type].onnx } })
  const nodes = [cast('x', 'z', dtype), node('Neg', ['z'], ['negative']), cast('negative', 'y', 'float32')]
  const probe = model({ inputs: [valueInfo('x', 'float32', [4])], outputs: [valueInfo('y', 'float32', [4])], nodes, initializers: [] })
  try {
    const session = await openSession(encodeModel(probe), { device: DEVICE })
    await session.run({ x: floats([4], [1, 2, 3, 4]) })
    await session.release()
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message.slice(-160) : String(error)
  }
}

const noDevice = await missing('float32')
const noHalf = noDevice ?? (await missing('float16'))

const options: TrainOptions = {
  // More parameters than a kernel has outputs.
  model: network([8, 8, 8, 8, 8, 8, 8]),
  data: circle(),
  loss: (emit, tensors) => lossOf({ kind: 'cross-entropy' })(emit, { prediction: 'scores', target: 'labels', tensors }),
  optimizer: optimizerOf({ kind: 'adamw' }),
  learningRate: () => 0.02,
  batchSize: 40,
  steps: 8,
  seed: 3,
}

async function lossesOf(changed: Partial<TrainOptions>): Promise<number[]> {
  const losses: number[] = []
  for await (const news of train({ ...options, ...changed })) losses.push(...news.losses)
  return losses
}

it('a perceptron learns on WebGPU as it does on the processor', { timeout: 300_000 }, async ({ skip }) => {
  if (noDevice !== undefined) skip(`needs a WebGPU device, a Vulkan driver that is, be it of software: ${noDevice}`)
  const [expected, got] = [await lossesOf({}), await lossesOf({ device: DEVICE })]
  expect(got).toHaveLength(8)
  got.forEach((loss, step) => expect(loss).toBeCloseTo(expected[step] as number, 5))
})

it('a perceptron learns there in mixed precision', { timeout: 300_000 }, async ({ skip }) => {
  if (noHalf !== undefined) skip(`needs a WebGPU device with shader-f16: ${noHalf}`)
  for (const autocast of ['products', 'graph'] as const) {
    const mixed = { autocast, lossScale: { initial: 1024, growthSteps: 2000 } }
    const [expected, got] = [await lossesOf(mixed), await lossesOf({ ...mixed, device: DEVICE })]
    got.forEach((loss, step) => expect(loss).toBeCloseTo(expected[step] as number, 2))
  }
})
