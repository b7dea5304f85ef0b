// Freed outputs: the arrays are empty, and the next run of the session uses their memory.
import { expect, it } from 'vitest'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { freeOutputs } from '#flyweight/runtime/free-outputs.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

const tensor = (data: Tensor['data']): Tensor => ({ dtype: Array.isArray(data) ? 'string' : 'float32', dims: [data.length], data })

it('leaves arrays empty, once and again, and strings alone', () => {
  const shared = new Float32Array(8)
  const outputs = { a: tensor(shared.subarray(0, 4)), b: tensor(shared.subarray(4)), text: tensor(['kept']) }
  freeOutputs(outputs)
  freeOutputs(outputs)
  expect([outputs.a.data.length, outputs.b.data.length]).toEqual([0, 0])
  expect(outputs.text.data).toEqual(['kept'])
})

/** A model that negates `x`. */
const negation = encodeModel(
  model({ inputs: [valueInfo('x', 'float32', ['n'])], outputs: [valueInfo('y', 'float32', ['n'])], nodes: [node('Neg', ['x'], ['y'])], initializers: [] }),
)

it('keeps memory outside of the heap flat over many large runs, without waiting for the garbage collector', async () => {
  const session = await openSession(negation)
  const x = tensor(new Float32Array(2 ** 20).fill(3))
  const grownBy = async (after: (outputs: Record<string, Tensor>) => void) => {
    const before = process.memoryUsage().arrayBuffers
    for (let run = 0; run < 5; run++) {
      const outputs = await session.run({ x })
      expect(outputs['y']!.data[7]).toBe(-3)
      after(outputs)
    }
    return process.memoryUsage().arrayBuffers - before
  }
  expect(await grownBy(freeOutputs)).toBeLessThan(4 * 2 ** 20)
  // The control: five outputs of 4 MiB each that nobody freed are still there.
  const kept: unknown[] = []
  expect(await grownBy((outputs) => kept.push(outputs))).toBeGreaterThan(16 * 2 ** 20)
  await session.release()
})

it('counts no memory for outputs that are written into memory that is given', async () => {
  const session = await openSession(negation)
  const [x, y] = [tensor(new Float32Array(2 ** 20).fill(3)), tensor(new Float32Array(2 ** 20))]
  const before = process.memoryUsage().arrayBuffers
  for (let run = 0; run < 5; run++) await session.runInto({ x }, { y })
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * 2 ** 20)
  expect(y.data[7]).toBe(-3)
  await session.release()
})
