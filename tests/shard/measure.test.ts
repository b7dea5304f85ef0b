// What is measured of a model: bytes of its weights wherever they are stored, bytes of values for the batch fed, and
// times that each belong to a node. How long anything took is not asserted.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { saveModel } from '#flyweight/onnx/load.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import { readBeside } from '#flyweight/shard/files.js'
import { measureWorkload, observeIn } from '#flyweight/shard/measure.js'
import { noise } from '../onnx/running.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-measure-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const values = (count: number) => Float32Array.from({ length: count }, (_, index) => Math.sin(index))
const whole = model({
  inputs: [valueInfo('x', 'float32', ['n', 32])],
  outputs: [valueInfo('y', 'float32', ['n', 32])],
  nodes: [
    node('Constant', [], ['k'], { attributes: { value: tensorProto('', 'float32', [32], values(32)) } }),
    node('MatMul', ['x', 'w'], ['a'], { name: 'same' }),
    node('MatMul', ['a', 'w'], ['b'], { name: '' }),
    node('Add', ['b', 'k'], ['c'], { name: '' }),
    node('Cast', ['c'], ['d'], { attributes: { to: 11 } }),
    node('Cast', ['d'], ['y'], { attributes: { to: 1 } }),
  ],
  initializers: [tensorProto('w', 'float32', [32, 32], values(1024))],
})

async function measured() {
  const file = join(folder, 'whole.onnx')
  await saveModel(whole, file, { externalThresholdBytes: 0 })
  const read = await readBeside(file, join(folder, 'out'))
  const feeds = { x: noise([4, 32]) }
  const flow = dataflow(read)
  const observed = await observeIn(join(folder, 'out'), read, [feeds])
  return measureWorkload(read, { folder: join(folder, 'out'), flow, observed, feeds, runs: 3 })
}

describe('the workload of a model', () => {
  it('has bytes of weights beside the model and of constants inside, shared ones once', async () => {
    const { nodes, weights } = await measured()
    expect(nodes.map((each) => each.weights.map((index) => weights[index]))).toEqual([[4096], [4096], [128], [], []])
    expect(weights).toEqual([4096, 128])
  })

  it('has bytes of values for the batch fed, in their own types', async () => {
    const { values: crossing } = await measured()
    expect(crossing.map(({ producer, bytes }) => [producer, bytes])).toEqual([
      [undefined, 512],
      [0, 512],
      [1, 512],
      [2, 512],
      [3, 1024],
      [4, 512],
    ])
  })

  it('has times of nodes, whatever their names, and leaves nothing behind', async () => {
    const { nodes } = await measured()
    expect(nodes.every(({ ms }) => ms >= 0)).toBe(true)
    expect(nodes.some(({ ms }) => ms > 0)).toBe(true)
    expect(readdirSync(join(folder, 'out'))).toEqual(['whole.onnx.data'])
  })
})
