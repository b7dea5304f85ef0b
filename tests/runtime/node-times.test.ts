// Times of nodes: each node that ran once, none of the session's own events; nothing is asserted of how long they took.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { nodeTimes } from '#flyweight/runtime/node-times.js'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-times-'))
  file = join(folder, 'model.onnx')
  const nodes = [node('Sin', ['x'], ['a'], { name: 'first' }), node('Cos', ['a'], ['b'], { name: 'second' }), node('Sin', ['b'], ['y'])]
  writeFileSync(file, encodeModel(model({ inputs: [valueInfo('x', 'float32', ['n'])], outputs: [valueInfo('y', 'float32', ['n'])], nodes })))
})
afterEach(() => rmSync(folder, { recursive: true }))

const feeds = { x: { dtype: 'float32' as const, dims: [4], data: new Float32Array(4) } }

describe('times of nodes', () => {
  it('name each node with its operator, in the order they ran', async () => {
    const times = await nodeTimes(file, { feeds, runs: 3 })
    expect(times.map(({ opType }) => opType)).toEqual(['Sin', 'Cos', 'Sin'])
    expect(times.slice(0, 2).map(({ name }) => name)).toEqual(['first', 'second'])
    expect(times.every(({ microseconds }) => microseconds >= 0)).toBe(true)
  })

  it('are not taken once cancelled', async () => {
    await expect(nodeTimes(file, { feeds, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'cancelled' })
  })
})
