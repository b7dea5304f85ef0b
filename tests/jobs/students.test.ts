// Students made from a teacher: how wide and deep they are, that they run, and where there is nothing to take away.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { makeStudent, type FoundStudent } from '#flyweight/jobs/students.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { buildNetwork, type NetworkSpec } from '#flyweight/train/networks.js'
import type { GivenStudent } from '#flyweight/train/pupil.js'
import { noise, run } from '../onnx/running.js'

const build = (spec: NetworkSpec, dims: number[]) => buildNetwork(spec, { input: { name: 'x', dims }, output: { name: 'scores', classes: 3 } }, 1)
const cnn = { teacher: build({ kind: 'cnn', channels: [8, 12], hidden: [] }, [1, 8, 8]), dims: [1, 8, 8] }
const transformer = { teacher: build({ kind: 'transformer', width: 8, depth: 4, heads: 2, expansion: 2, patch: 4 }, [5, 7]), dims: [5, 7] }
const linear = { teacher: build({ kind: 'mlp', hidden: [] }, [6]), dims: [6] }

async function made(found: FoundStudent, { teacher, dims }: typeof cnn): Promise<GivenStudent['model']> {
  const rows = noise([8, ...dims], 4)
  const samples = { rows: 8, digest: 'noise', take: (_: number, count: number) => ({ x: noise([count, ...dims], 5) }) }
  const student = (await makeStudent(found, { teacher, samples, batchable: true, threads: 1 })) as GivenStudent
  expect((await run(student.model, { x: rows }))['scores']?.dims).toEqual([8, 3])
  return student.model
}
const dimsOf = (model: GivenStudent['model'], pattern: RegExp) =>
  Object.fromEntries(model.graph.initializer.filter(({ name }) => pattern.test(name)).map(({ name, dims }) => [name, dims.map(Number)]))

describe('a narrower student', () => {
  it('has its share of a network’s channels', async () => {
    const before = encodeModel(cnn.teacher)
    expect(dimsOf(await made({ kind: 'shrink', width: 0.5 }, cnn), /weight|scale/)).toEqual({
      'block1.conv.weight': [4, 1, 3, 3],
      'block1.norm.scale': [4],
      'block2.conv.weight': [6, 4, 3, 3],
      'block2.norm.scale': [6],
      'dense1.weight': [3, 6],
    })
    expect(encodeModel(cnn.teacher)).toEqual(before)
  })

  it('may be far narrower', async () => {
    expect(dimsOf(await made({ kind: 'shrink', width: 0.01 }, cnn), /conv/)).toEqual({ 'block1.conv.weight': [1, 1, 3, 3], 'block2.conv.weight': [1, 1, 3, 3] })
  })

  it('has its share of a transformer’s features, heads and hidden units', async () => {
    const model = await made({ kind: 'shrink', width: 0.5 }, transformer)
    expect(dimsOf(model, /^(embedding|block1\.(query|expand|projection)|dense1)\.weight$/)).toEqual({
      'embedding.weight': [7, 4],
      'block1.query.weight': [4, 4],
      'block1.projection.weight': [4, 4],
      'block1.expand.weight': [4, 8],
      'dense1.weight': [3, 4],
    })
  })

  it('is refused where nothing can go', async () => {
    await expect(made({ kind: 'shrink', width: 0.5 }, linear)).rejects.toThrow('/student/width: got 0.5, but none of the 1 layers of the teacher')
  })
})

it('a shallower student has its share of the blocks, and may be narrower, too', async () => {
  const model = await made({ kind: 'shrink', width: 0.5, depth: 0.5 }, transformer)
  expect(model.graph.node.filter(({ opType }) => opType === 'Softmax')).toHaveLength(2)
  expect(dimsOf(model, /^block4\.query\.weight$/)).toEqual({ 'block4.query.weight': [4, 4] })
  await expect(made({ kind: 'shrink', depth: 0.5 }, cnn)).rejects.toThrow('/student/depth: got 0.5, expected residual blocks')
})

it('another model is read from its file', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'students-'))
  try {
    const file = join(folder, 'other.onnx')
    const other = build({ kind: 'mlp', hidden: [5] }, [6])
    await writeFile(file, encodeModel(other))
    expect(encodeModel(await made({ kind: 'file', file, digest: '' }, linear))).toEqual(encodeModel(other))
  } finally {
    await rm(folder, { recursive: true })
  }
})
