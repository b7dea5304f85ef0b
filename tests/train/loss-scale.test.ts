import Value from 'typebox/value'
import { describe, expect, it } from 'vitest'
import { model, valueInfo } from '#flyweight/onnx/builder.js'
import { Emitter } from '#flyweight/onnx/emitter.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { emitIsFinite, emitKept, emitNextScale, emitUnscaled, LossScaleSchema, type LossScaleOptions } from '#flyweight/train/loss-scale.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { floats, noise } from '../onnx/running.js'

interface After {
  parameters: number[]
  scale: number
  goodSteps: number
  finite: boolean
}

/** Gradient descent at a rate of 0.1 by gradients of a scaled loss, step after step. */
async function descend(gradients: number[][], options: LossScaleOptions): Promise<After[]> {
  let last = 0
  const emit = new Emitter((base) => `${base}#${last++}`)
  const finite = emitIsFinite(emit, 'gradients')
  const unscaled = emitUnscaled(emit, 'gradients', 'scale')
  const moved = emit.op('Sub', ['parameters', emit.op('Mul', [unscaled, emit.scalar(0.1)])])
  const [kept] = emitKept(emit, finite, { after: [moved], before: ['parameters'] }) as [string]
  const next = emitNextScale(emit, finite, { scale: 'scale', goodSteps: 'goodSteps' }, options)
  const size = gradients[0]?.length as number
  const graph = model({
    inputs: [
      ...['gradients', 'parameters'].map((name) => valueInfo(name, 'float32', [size])),
      ...['scale', 'goodSteps'].map((name) => valueInfo(name, 'float32', [])),
    ],
    outputs: [valueInfo(kept, 'float32', [size]), ...[next.scale, next.goodSteps].map((name) => valueInfo(name, 'float32', [])), valueInfo(finite, 'bool', [])],
    nodes: emit.nodes,
    initializers: emit.initializers,
  })
  const session = await openSession(encodeModel(graph), { optimization: 'all' })
  const course: After[] = []
  let state: Record<string, Tensor> = {
    parameters: floats([size], new Array<number>(size).fill(1)),
    scale: floats([], [options.initial]),
    goodSteps: floats([], [0]),
  }
  try {
    for (const gradient of gradients) {
      const scale = state['scale']?.data[0] as number
      const scaled = gradient.map((value) => value * scale)
      const results = await session.run({ gradients: floats([size], scaled), ...state })
      const of = (name: string) => results[name] as Tensor
      state = { parameters: of(kept), scale: of(next.scale), goodSteps: of(next.goodSteps) }
      course.push({
        parameters: Array.from(of(kept).data as Float32Array),
        scale: Number(of(next.scale).data[0]),
        goodSteps: Number(of(next.goodSteps).data[0]),
        finite: Boolean(of(finite).data[0]),
      })
    }
  } finally {
    await session.release()
  }
  return course
}

const SIZE = 37
const good = (seed: number) => Array.from(noise([SIZE], seed).data as Float32Array)
const broken = (value: number, at = 20) => good(1).with(at, value)

describe('loss scaling', () => {
  it.each([Number.NaN, Infinity, -Infinity])('skips a step with %d and goes on', async (value) => {
    for (const at of [0, 20, SIZE - 1]) {
      const [first, skipped, recovered] = (await descend([good(2), broken(value, at), good(3)], { initial: 1024, growthSteps: 2000 })) as [After, After, After]
      expect([first.finite, skipped.finite, recovered.finite]).toEqual([true, false, true])
      expect(skipped.parameters).toEqual(first.parameters)
      expect([first, skipped, recovered].map(({ scale, goodSteps }) => [scale, goodSteps])).toEqual([
        [1024, 1],
        [512, 0],
        [512, 1],
      ])
      for (const [index, parameter] of recovered.parameters.entries()) {
        expect(parameter).toBeCloseTo((first.parameters[index] as number) - 0.1 * (good(3)[index] as number), 6)
      }
    }
  })

  it('is not misled by infinities of both signs', async () => {
    const both = broken(Infinity).with(3, -Infinity)
    expect((await descend([both], { initial: 8, growthSteps: 10 }))[0]).toMatchObject({ finite: false, parameters: new Array(SIZE).fill(1) })
  })

  it('doubles after good steps in a row and counts anew', async () => {
    const bad = broken(Number.NaN)
    const steps = [good(1), good(2), bad, good(3), good(4), good(5), good(6), good(7), good(8), good(9)]
    const course = await descend(steps, { initial: 64, growthSteps: 3 })
    expect(course.map(({ scale }) => scale)).toEqual([64, 64, 32, 32, 32, 64, 64, 64, 128, 128])
    expect(course.map(({ goodSteps }) => goodSteps)).toEqual([1, 2, 0, 1, 2, 0, 1, 2, 0, 1])
  })

  it('stays within bounds', async () => {
    const up = await descend(
      Array.from({ length: 3 }, (_, step) => good(step + 1)),
      { initial: 2 ** 23, growthSteps: 1 },
    )
    expect(up.map(({ scale }) => scale)).toEqual([2 ** 24, 2 ** 24, 2 ** 24])
    const down = await descend(
      Array.from({ length: 3 }, () => broken(Infinity)),
      { initial: 2 ** -23, growthSteps: 1 },
    )
    expect(down.map(({ scale }) => scale)).toEqual([2 ** -24, 2 ** -24, 2 ** -24])
  })

  it('has defaults', () => {
    expect(Value.Default(LossScaleSchema, {})).toEqual({ initial: 65536, growthSteps: 2000 })
  })

  it('takes large gradients as they are', async () => {
    const [step] = await descend([good(1).with(5, 6e4)], { initial: 2 ** 20, growthSteps: 10 })
    expect(step?.finite).toBe(true)
    expect(step?.parameters[5]).toBeCloseTo(1 - 6e3, 3)
  })
})
