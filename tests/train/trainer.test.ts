// Training against a loop in double precision that was written without any of the code under test.
import { describe, expect, it } from 'vitest'
import { model as makeModel, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import type { Dataset } from '#flyweight/train/dataset.js'
import type { Optimizer } from '#flyweight/train/optimizers/optimizer.js'
import { ShuffledRows } from '#flyweight/train/dataset.js'
import type { TrainState } from '#flyweight/train/step-engine.js'
import { train, type TrainOptions } from '#flyweight/train/trainer.js'
import type { Model } from '#flyweight/train/training-form.js'
import { noise } from '../onnx/running.js'

const [ROWS, INPUTS, OUTPUTS, BATCH] = [23, 3, 2, 4]
const inputs = noise([ROWS, INPUTS], 1).data as Float32Array
const targets = noise([ROWS, OUTPUTS], 2).data as Float32Array

const data: Dataset = {
  rows: ROWS,
  read: (rows) => ({ x: pick(inputs, INPUTS, rows), target: pick(targets, OUTPUTS, rows) }),
}

function pick(all: Float32Array, width: number, rows: readonly number[]) {
  return {
    dtype: 'float32' as const,
    dims: [rows.length, width],
    data: Float32Array.from(rows.flatMap((row) => [...all.slice(row * width, (row + 1) * width)])),
  }
}

const weight = noise([INPUTS, OUTPUTS], 3).data as Float32Array<ArrayBuffer>
const bias = noise([OUTPUTS], 4).data as Float32Array<ArrayBuffer>

function linear(): Model {
  return makeModel({
    inputs: [valueInfo('x', 'float32', ['n', INPUTS])],
    outputs: [valueInfo('y', 'float32', ['n', OUTPUTS])],
    nodes: [node('MatMul', ['x', 'w'], ['product']), node('Add', ['product', 'b'], ['y'])],
    initializers: [tensorProto('w', 'float32', [INPUTS, OUTPUTS], weight), tensorProto('b', 'float32', [OUTPUTS], bias)],
  })
}

/** Gradient descent with momentum 0.5. */
const momentum: Optimizer = {
  name: 'momentum',
  slots: ['velocity'],
  emit: (emit, { parameters, gradients, learningRate, slots: [velocity] }) => {
    const moved = emit.op('Add', [emit.op('Mul', [velocity as string, emit.scalar(0.5)]), gradients])
    return { parameters: emit.op('Sub', [parameters, emit.op('Mul', [moved, learningRate])]), slots: [moved] }
  },
}

const options: TrainOptions = {
  model: linear(),
  data,
  loss: (emit) => {
    const error = emit.op('Sub', ['y', 'target'])
    return emit.op('ReduceMean', [emit.op('Mul', [error, error])], { attributes: { keepdims: 0 } })
  },
  optimizer: momentum,
  learningRate: (step) => 0.3 / (1 + step),
  batchSize: BATCH,
  steps: 50,
  seed: 5,
}

async function trained(changed: Partial<TrainOptions> = {}): Promise<{ model: Model; state: TrainState; losses: number[] }> {
  const losses: number[] = []
  let result: { model: Model; state: TrainState } | undefined
  for await (const news of train({ ...options, ...changed })) {
    losses.push(...news.losses)
    result = { model: news.modelOf(news.state), state: news.state }
  }
  return { ...(result as { model: Model; state: TrainState }), losses }
}

function values(model: Model, name: string): Float32Array {
  return tensorValues(model.graph.initializer.find((tensor) => tensor.name === name)!).data as Float32Array
}

function reference(steps: number): { w: number[]; b: number[]; losses: number[] } {
  const [w, b] = [[...weight], [...bias]]
  const velocity = { w: w.map(() => 0), b: b.map(() => 0) }
  const rows = new ShuffledRows(ROWS, 5)
  const losses: number[] = []
  for (let step = 0; step < steps; step++) {
    const gradient = { w: w.map(() => 0), b: b.map(() => 0) }
    let loss = 0
    for (const row of rows.take(step * BATCH, BATCH)) {
      for (let o = 0; o < OUTPUTS; o++) {
        let y = b[o] as number
        for (let i = 0; i < INPUTS; i++) y += (inputs[row * INPUTS + i] as number) * (w[i * OUTPUTS + o] as number)
        const error = y - (targets[row * OUTPUTS + o] as number)
        loss += error ** 2 / (BATCH * OUTPUTS)
        gradient.b[o] = (gradient.b[o] as number) + (2 * error) / (BATCH * OUTPUTS)
        for (let i = 0; i < INPUTS; i++) {
          gradient.w[i * OUTPUTS + o] = (gradient.w[i * OUTPUTS + o] as number) + (2 * error * (inputs[row * INPUTS + i] as number)) / (BATCH * OUTPUTS)
        }
      }
    }
    losses.push(loss)
    for (const [values, moving, by] of [
      [w, velocity.w, gradient.w],
      [b, velocity.b, gradient.b],
    ] as const) {
      for (let k = 0; k < values.length; k++) {
        moving[k] = 0.5 * (moving[k] as number) + (by[k] as number)
        values[k] = (values[k] as number) - options.learningRate(step) * (moving[k] as number)
      }
    }
  }
  return { w, b, losses }
}

function expectNear(got: ArrayLike<number>, expected: readonly number[]): void {
  expect(got.length).toBe(expected.length)
  for (const [index, value] of expected.entries()) expect(got[index]).toBeCloseTo(value, 5)
}

describe('training a linear model', () => {
  it('goes step by step where gradient descent with momentum goes', async () => {
    const expected = reference(50)
    const { model, losses } = await trained()
    expectNear(losses, expected.losses)
    expectNear(values(model, 'w'), expected.w)
    expectNear(values(model, 'b'), expected.b)
  })

  it('goes the same way when batches are computed in parts', async () => {
    const [whole, inParts] = [await trained(), await trained({ parts: 2 })]
    expectNear(inParts.losses, whole.losses)
    expectNear(values(inParts.model, 'w'), [...values(whole.model, 'w')])
    expect((await trained({ parts: 2 })).state).toEqual(inParts.state)
    await expect(trained({ parts: 3 })).rejects.toThrow('/parts: got 3, expected a divisor of the 4 rows of a step')
  })

  it.each([1, 2])('leaves out a step whose gradients overflow, and goes on with half the scale; batches in %d parts', async (parts) => {
    const scaled = await trained({ parts, steps: 1, lossScale: { initial: 2 ** 127, growthSteps: 1000 } })
    expect(values(scaled.model, 'w')).toEqual(weight)
    expect(scaled.state.vectors).toMatchObject({ loss_scale: Float32Array.of(2 ** 126), good_steps: Float32Array.of(0), velocity: new Float32Array(8) })
    const plain = await trained({ parts })
    const recovered = await trained({ parts, steps: 51, lossScale: { initial: 2 ** 124, growthSteps: 1000 }, learningRate: (step) => 0.3 / step || 0 })
    expect(recovered.losses.at(-1)).toBeLessThan(2 * (plain.losses.at(-1) as number))
    const small = await trained({ parts, lossScale: { initial: 2 ** 10, growthSteps: 20 } })
    expectNear(values(small.model, 'w'), [...values(plain.model, 'w')])
    expect(small.state.vectors).toMatchObject({ loss_scale: Float32Array.of(2 ** 12), good_steps: Float32Array.of(10) })
  })

  it('resumes to the same bits', async () => {
    const whole = await trained()
    const half = await trained({ steps: 17 })
    const rest = await trained({ resume: half.state })
    expect([...half.losses, ...rest.losses]).toEqual(whole.losses)
    expect(rest.state).toEqual(whole.state)
  })

  it('leaves the model that it was given, and frozen weights, as they were', async () => {
    const model = linear()
    const { model: after } = await trained({ model, freeze: ['b'], steps: 5 })
    expect(values(model, 'w')).toEqual(weight)
    expect(values(after, 'b')).toEqual(bias)
    expect(values(after, 'w')).not.toEqual(weight)
  })

  it('says that a name to freeze is unknown', async () => {
    await expect(trained({ freeze: ['nothing*'] })).rejects.toThrow('got "nothing*", expected the name of a weight')
  })

  it('stops when it is told to', async () => {
    await expect(trained({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough')
  })
})
