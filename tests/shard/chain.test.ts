// Chains of stages, each run on nothing but what the one before gave: the same as the whole, for models with values that
// pass over stages.
import { afterAll, describe, expect, it } from 'vitest'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { model as modelOf, node, valueInfo } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { chainStages } from '#flyweight/shard/chain.js'
import { writeKserve } from '#flyweight/shard/kserve-files.js'
import { shardModel } from '#flyweight/shard/shard.js'
import { floats, largestDifference, noise } from '../onnx/running.js'
import { cut, evenly, runWhole, type Feeds, type Model } from './stages.js'

const folder = mkdtempSync(join(tmpdir(), 'flyweight-chain-'))
afterAll(() => rmSync(folder, { recursive: true }))
const x = (rows: number): Feeds => ({ x: noise([rows, 1, 28, 28], rows) })

/** Each stage gets exactly the former's outputs, under the names that they have there. */
async function runChain(models: readonly Model[], feeds: Feeds): Promise<Feeds> {
  let values = feeds
  for (const model of models) {
    const session = await openSession(encodeModel(model), { optimization: 'disabled' })
    expect(session.inputs.map(({ name }) => name).sort()).toEqual(Object.keys(values).sort())
    values = await session.run({ ...values })
    await session.release()
  }
  return values
}

const ioOf = ({ graph }: Model) => ({
  inputs: graph.input.filter(({ name }) => !graph.initializer.some((each) => each.name === name)),
  outputs: graph.output.map(({ name }) => name),
})

describe('chainStages', () => {
  it.each([
    ['tests/fixtures/digits_cnn.onnx', 3],
    ['tests/fixtures/digits_vit.onnx', 2],
    ['tests/fixtures/digits_vit.onnx', 5],
  ])('%s in %i stages gives the same, with no values but those handed on', async (file, count) => {
    const model = await loadModel(file)
    const stages = await cut(model, evenly(model, count), [x(1), x(2)])
    const chain = chainStages(stages, ioOf(model))
    for (const [index, { inputs }] of chain.entries()) if (index > 0) expect(inputs).toEqual(chain[index - 1]!.outputs)
    const feeds = x(3)
    const [whole] = await runWhole(model, [feeds])
    expect(
      largestDifference(
        await runChain(
          chain.map((stage) => stage.model),
          feeds,
        ),
        whole!,
      ),
    ).toBe(0)
  })

  it('passes on inputs and outputs of the whole that only the first or the last stage has to do with', async () => {
    const [a, b] = [valueInfo('a', 'float32', ['N', 2]), valueInfo('b', 'float32', ['N', 2])]
    const outputs = [valueInfo('early', 'float32', ['N', 2]), valueInfo('late', 'float32', ['N', 2]), a]
    const nodes = [node('Neg', ['a'], ['early']), node('Relu', ['early'], ['middle']), node('Add', ['middle', 'b'], ['late'])]
    const small = modelOf({ nodes, inputs: [a, b], outputs })
    const feeds = { a: floats([1, 2], [-1, 2]), b: floats([1, 2], [10, 20]) }
    const stages = await cut(small, [0, 1, 2], [feeds])
    const values = await runChain(
      chainStages(stages, ioOf(small)).map((stage) => stage.model),
      feeds,
    )
    expect(values).toMatchObject({ early: floats([1, 2], [1, -2]), late: floats([1, 2], [11, 20]), a: feeds.a })
  })

  it('refuses values that JSON does not carry', async () => {
    const model = await loadModel('tests/fixtures/digits_cnn.onnx')
    const stages = await cut(model, evenly(model, 2), [x(1), x(2)])
    const { type } = stages[0]!.model.graph.output[0]!
    if (type?.value.case === 'tensorType') type.value.value.elemType = 10
    expect(() => chainStages(stages, ioOf(model))).toThrow(
      expect.objectContaining({ code: 'invalid_plan', message: expect.stringContaining('float16') as string }),
    )
  })
})

describe('writeKserve', () => {
  it('writes a storage that Flyweight serves, and what to apply', async () => {
    const file = 'tests/fixtures/digits_vit.onnx'
    const plan = await shardModel(file, { folder, feedSets: [x(1), x(2)], devices: [{ name: 'cpu:0' }, { name: 'cpu:1' }], microBatches: 4 })
    await writeKserve(file, folder, plan, { name: 'digits', image: 'flyweight:1', storage: 'pvc://models/digits' })
    const models = await Promise.all([0, 1].map((stage) => loadModel(join(folder, `storage/digits-${stage}/digits-${stage}/1/model.onnx`))))
    const [whole] = await runWhole(await loadModel(file), [x(2)])
    expect(largestDifference(await runChain(models, x(2)), whole!)).toBe(0)
    expect(readFileSync(join(folder, 'kserve.yaml'), 'utf8').match(/^kind: .*/gm)).toEqual([
      'kind: InferenceService',
      'kind: InferenceService',
      'kind: InferenceGraph',
    ])
  })
})
