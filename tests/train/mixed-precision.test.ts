// Training in mixed precision: as good as in single precision, steps that overflow left out, and a model that does not
// show it.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { dtypeOf } from '#flyweight/onnx/builder.js'
import { loadCheckpoint, saveCheckpoint } from '#flyweight/train/checkpoint.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import type { Dataset } from '#flyweight/train/dataset.js'
import { evaluate } from '#flyweight/train/evaluate.js'
import type { FitState } from '#flyweight/train/fit.js'
import { lossOf } from '#flyweight/train/losses/table.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { optimizerOf } from '#flyweight/train/optimizers/table.js'
import { completeSettings } from '#flyweight/train/settings.js'
import type { EmitLoss } from '#flyweight/train/step.js'
import type { TrainState } from '#flyweight/train/step-engine.js'
import { train, type TrainOptions } from '#flyweight/train/trainer.js'
import { runTraining, type TrainingOptions } from '#flyweight/train/training.js'
import type { Model } from '#flyweight/train/training-form.js'
import { circle, network } from './circle.js'
import { noise } from '../onnx/running.js'

const loss: EmitLoss = (emit, tensors) => lossOf({ kind: 'cross-entropy' })(emit, { prediction: 'scores', target: 'labels', tensors })

const options: TrainOptions = {
  model: network([24]),
  data: circle(),
  loss,
  optimizer: optimizerOf({ kind: 'adamw' }),
  learningRate: () => 0.02,
  batchSize: 40,
  steps: 200,
  seed: 3,
  autocast: 'products',
  lossScale: { initial: 2 ** 16, growthSteps: 2000 },
}

interface Course {
  model: Model
  /** State after each step, the start first. */
  states: TrainState[]
  losses: number[]
  accuracy: number
}

async function course(changed: Partial<TrainOptions>, base = options): Promise<Course> {
  const states: TrainState[] = []
  const losses: number[] = []
  let model: Model | undefined
  for await (const { state, losses: last, modelOf } of train({ ...base, newsEvery: 1, ...changed })) {
    states.push(state)
    losses.push(...last)
    model = modelOf(state)
  }
  const { accuracy } = await evaluate({ model: model as Model, data: circle(), loss, batchSize: 400, output: 'scores' })
  return { model: model as Model, states, losses, accuracy: accuracy as number }
}

const scaleAt = ({ states }: Course, step: number) => states[step]?.vectors['loss_scale']?.[0]
const parametersAt = ({ states }: Course, step: number) => states[step]?.vectors['parameters']

/** The dataset with rows that no float16 can hold in some steps. */
function spoilt(data: Dataset, steps: readonly number[], batchSize = options.batchSize): Dataset {
  return {
    rows: data.rows,
    read: async (rows, position) => {
      const batch = await data.read(rows, position)
      if (steps.includes(position / batchSize)) ((batch['x'] as Tensor).data as Float32Array)[3] = 1e6
      return batch
    },
  }
}

/** The same without autocast, or without loss scaling. */
function without(options: TrainOptions, ...names: ('autocast' | 'lossScale')[]): TrainOptions {
  const left = { ...options }
  for (const name of names) delete left[name]
  return left
}

describe('a step that overflows', () => {
  it.each([1, 2])('for the sake of its inputs is left out, the scale halved, and training goes on; batches in %d parts', async (parts) => {
    const bad = [5, 6, 30]
    const broken = await course({ data: spoilt(circle(), bad), parts })
    for (let step = 0; step < 40; step++) {
      const [before, after] = [parametersAt(broken, step), parametersAt(broken, step + 1)]
      if (bad.includes(step)) expect(after).toEqual(before)
      else expect(after).not.toEqual(before)
      expect(scaleAt(broken, step + 1)).toBe(2 ** (16 - bad.filter((one) => one <= step).length))
      expect(Number.isFinite(broken.losses[step])).toBe(!bad.includes(step))
    }
    const whole = await course({}, without(options, 'autocast', 'lossScale'))
    expect(whole.accuracy).toBeGreaterThan(0.95)
    expect(Math.abs(broken.accuracy - whole.accuracy)).toBeLessThan(0.03)
  })

  it.each(['products', 'graph'] as const)('for the sake of the scale is left out until the scale fits; %s', async (autocast) => {
    const scaled = await course({ autocast, lossScale: { initial: 2 ** 30, growthSteps: 2000 }, steps: 220 })
    const first = scaled.states.findIndex((_, step) => scaleAt(scaled, step + 1) === scaleAt(scaled, step))
    expect(first).toBeGreaterThan(5)
    expect(first).toBeLessThan(20)
    expect(parametersAt(scaled, first)).toEqual(parametersAt(scaled, 0))
    expect(parametersAt(scaled, first + 1)).not.toEqual(parametersAt(scaled, 0))
    expect(scaled.losses.every(Number.isFinite)).toBe(true)
    expect(scaled.accuracy).toBeGreaterThan(0.95)
  })
})

describe('small gradients', () => {
  /** So small that float16 has none of its gradients. */
  const faint: EmitLoss = (emit, tensors) => emit.op('Mul', [loss(emit, tensors), emit.scalar(2 ** -26)])
  const weak: Partial<TrainOptions> = { loss: faint, optimizer: optimizerOf({ kind: 'sgd' }), learningRate: () => 2 ** 25, steps: 100 }

  it('vanish without a scale, and with one do what they do in single precision', async () => {
    const bare = await course(weak, without(options, 'lossScale'))
    expect(parametersAt(bare, 100)).toEqual(parametersAt(bare, 0))
    const scaled = await course({ ...weak, lossScale: { initial: 2 ** 24, growthSteps: 2000 } })
    const single = await course(weak, without(options, 'autocast', 'lossScale'))
    expect(single.losses.at(-1)).toBeLessThan(0.5 * (single.losses[0] as number))
    expect(scaled.losses.at(-1)).toBeCloseTo(single.losses.at(-1) as number, 9)
    expect(Math.abs((scaled.losses.at(-1) as number) / (single.losses.at(-1) as number) - 1)).toBeLessThan(0.05)
  })
})

/** 8×8 images of stripes, upright or level, under noise. */
function stripes(rows = 200): Dataset {
  const pixels = (noise([rows, 64], 5).data as Float32Array).map((value, at) => value + (Math.floor(at / 64) % 2 === 0 ? at % 2 : Math.floor(at / 8) % 2))
  return {
    rows,
    read: (wanted) => ({
      x: { dtype: 'float32', dims: [wanted.length, 1, 8, 8], data: Float32Array.from(wanted.flatMap((row) => [...pixels.slice(row * 64, (row + 1) * 64)])) },
      labels: { dtype: 'int64', dims: [wanted.length], data: BigInt64Array.from(wanted, (row) => BigInt(row % 2)) },
    }),
  }
}

describe('settings of mixed precision', () => {
  const base = { epochs: 20, batchSize: 30, learningRate: 0.02, holdOut: 0.25 }
  const given = (settings: object, changed: Partial<TrainingOptions> = {}): TrainingOptions => ({
    model: network([24]),
    output: 'scores',
    data: circle(),
    settings: completeSettings({ ...base, ...settings }),
    threads: 1,
    ...changed,
  })
  const levels = ['products', 'graph'].map((level) => ({ precision: { kind: 'mixed', level } }))

  it.each(levels)('train a perceptron as well as single precision does: %j', async (mixed) => {
    const [single, half] = [await runTraining(given({})), await runTraining(given(mixed))]
    expect(single.best.heldOut.accuracy).toBeGreaterThan(0.9)
    expect(Math.abs((half.best.heldOut.accuracy as number) - (single.best.heldOut.accuracy as number))).toBeLessThan(0.05)
    expect(half.curve).not.toEqual(single.curve)
    // What comes out differs in the values of weights only.
    expect({ ...half.model.graph, initializer: [] }).toEqual({ ...single.model.graph, initializer: [] })
    expect(half.model.graph.initializer.map(({ name, dataType }) => [name, dtypeOf(dataType)])).toEqual(
      single.model.graph.initializer.map(({ name }) => [name, 'float32']),
    )
  })

  it.each(levels)('train a convolutional network with batch normalisation: %j', async (mixed) => {
    const model = buildNetwork(
      { kind: 'cnn', channels: [6, 8], hidden: [16] },
      { input: { name: 'x', dims: [1, 8, 8] }, output: { name: 'scores', classes: 2 } },
      2,
    )
    const convolutional = (settings: object) => runTraining(given({ ...settings, epochs: 4 }, { model, data: stripes() }))
    const [single, half] = [await convolutional({}), await convolutional(mixed)]
    expect(single.best.heldOut.accuracy).toBeGreaterThan(0.85)
    expect(half.best.heldOut.accuracy).toBeGreaterThan((single.best.heldOut.accuracy as number) - 0.08)
  })

  it('resume to the same bits from a checkpoint, scale and all', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'mixed-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    const file = join(folder, 'state.npz')
    const settings = { precision: { kind: 'mixed', lossScale: { initial: 2 ** 20, growthSteps: 7 } }, epochs: 6 }
    const seen: FitState[] = []
    const whole = await runTraining(given(settings, { onCheckpoint: (state) => void seen.push(structuredClone(state)) }))
    await saveCheckpoint(file, 'circle', seen[2] as FitState)
    const resume = (await loadCheckpoint(file, 'circle')) as FitState
    expect(resume.training.vectors['loss_scale']?.[0]).not.toBe(2 ** 20)
    const rest: FitState[] = []
    const resumed = await runTraining(given(settings, { resume, onCheckpoint: (state) => void rest.push(structuredClone(state)) }))
    expect(resumed.curve).toEqual(whole.curve)
    expect(resumed.model.graph.initializer).toEqual(whole.model.graph.initializer)
    expect(rest.at(-1)?.training).toEqual(seen.at(-1)?.training)
  })
})
