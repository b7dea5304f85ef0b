// Outputs in memory that was used before: the same numbers, whatever sizes come, and whoever's data decides them.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { OutputMemory } from '#flyweight/runtime/output-memory.js'
import { openSession, type Session } from '#flyweight/runtime/session.js'
import { floats } from '../onnx/running.js'

const doubled = model({
  inputs: [valueInfo('x', 'float32', ['n', 2])],
  outputs: [valueInfo('y', 'float32', ['n', 2]), valueInfo('negative', 'float32', ['n', 2])],
  nodes: [node('Mul', ['x', 'two'], ['y']), node('Neg', ['x'], ['negative'])],
  initializers: [tensorProto('two', 'float32', [1], [2])],
})
/** As many columns as there are values that are not zero. */
const counting = model({
  inputs: [valueInfo('x', 'float32', ['n', 2])],
  outputs: [valueInfo('where', 'int64', [2, 'found'])],
  nodes: [node('NonZero', ['x'], ['where'])],
  initializers: [],
})

const sessions: Session[] = []
beforeAll(async () => {
  for (const each of [doubled, counting]) sessions.push(await openSession(encodeModel(each)))
})
afterAll(() => Promise.all(sessions.map((session) => session.release())))

const rows = (count: number, seed: number) => ({
  x: floats(
    [count, 2],
    Array.from({ length: count * 2 }, (_, index) => seed + index),
  ),
})

it('takes buffers of the sizes it has seen, leaves the others, and gives the same numbers', async () => {
  const memory = new OutputMemory(sessions[0]!)
  const [large, small, odd] = [new ArrayBuffer(24), new ArrayBuffer(8), new ArrayBuffer(7)]
  expect((await memory.run(rows(3, 1), undefined, [large, odd])).left).toEqual([large, odd])
  const { outputs, left } = await memory.run(rows(3, 5), undefined, [large, odd])
  expect(left).toEqual([odd])
  expect(outputs).toEqual(await sessions[0]!.run(rows(3, 5)))
  expect((outputs['y']!.data as Float32Array).buffer).toBe(large)
  // Other rows are another size; then both sizes are known.
  expect((await memory.run(rows(1, 2), ['y'], [small])).left).toEqual([small])
  const one = await memory.run(rows(1, 2), ['y'], [large, small])
  expect(one.left).toEqual([large])
  expect(one.outputs).toEqual(await sessions[0]!.run(rows(1, 2), ['y']))
})

it('writes into no memory any more where the data decides the sizes', async () => {
  const memory = new OutputMemory(sessions[1]!)
  const buffer = new ArrayBuffer(2 * 2 * 8)
  const [two, three] = [{ x: floats([2, 2], [1, 0, 0, 4]) }, { x: floats([2, 2], [1, 2, 0, 4]) }]
  await memory.run(two, undefined, [buffer])
  expect((await memory.run(two, undefined, [buffer])).left).toEqual([])
  for (const feeds of [three, two]) {
    const { outputs, left } = await memory.run(feeds, undefined, [buffer])
    expect(left).toEqual([buffer])
    expect(outputs).toEqual(await sessions[1]!.run(feeds))
  }
})

it('fails as a run without memory does', async () => {
  const memory = new OutputMemory(sessions[0]!)
  await expect(memory.run({ x: floats([1, 3], [1, 2, 3]) }, undefined, [new ArrayBuffer(8)])).rejects.toThrow(/invalid dimensions/i)
})
